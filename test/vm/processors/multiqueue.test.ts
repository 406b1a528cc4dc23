/** As many queues as the kernel has CPUs, all of them busy at once. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BlockDevice } from '../../../host/index.js';
import { imageFile, run, withDisk } from '../disk-fixture.js';
import { shell } from '../fixture.js';

const BYTES = 16 * 2 ** 20;

for (const threads of [2, 1])
  test(`two queues of four, run by ${threads} thread(s), with verification`, async () => {
    const file = imageFile(BYTES);
    const options = { driver: 'virtio_vdpa', queues: 4, threads } as const;
    await withDisk(new BlockDevice({ file }), options, async ({ device, path, errors }) => {
      await run(
        `fio --name=verify --filename=${path} --rw=randwrite --bs=4k --size=4m --offset_increment=8m --numjobs=2 \
         --cpus_allowed=0,1 --cpus_allowed_policy=split --direct=1 --iodepth=16 --ioengine=io_uring --verify=crc32c \
         --verify_fatal=1 --output-format=terse`,
      );
      const requests = device.stats().queues.map((queue) => queue.requests);
      assert.ok(requests[0]! > 1000 && requests[1]! > 1000, `${requests}`);
      assert.equal(requests.slice(2), [0, 0], 'the kernel has no CPU for them');
      shell(`sync; echo 3 > /proc/sys/vm/drop_caches; cmp ${path} ${file}`);
      assert.equal(errors, []);
    });
  });

test.run();
