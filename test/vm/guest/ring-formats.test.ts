/** The kernel's disk driver over rings of every format that it takes: ours answers what its own code writes. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED } from '../../../assembly/virtio.js';
import { BlockDevice, BlockModel, type ServeOptions } from '../../../host/index.js';
import { acceptedFeature, imageFile, run, withDisk } from '../disk-fixture.js';
import { kernelIsSince, shell } from '../fixture.js';

const BYTES = 4 * 2 ** 20;

/** A disk in an array, whose requests end in any order. */
class Shuffled extends BlockModel {
  override capacity = BYTES;
  readonly #bytes = new Uint8Array(BYTES);

  override async read(offset: number, into: Uint8Array): Promise<void> {
    if (offset % 16384) await new Promise((resolve) => setImmediate(resolve));
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }

  override write(offset: number, from: Uint8Array): void {
    this.#bytes.set(from, offset);
  }
}

/** Random traffic whose every block is verified; the checks of fio end it with an error. */
const verify = (path: string) =>
  run(`fio --name=verify --filename=${path} --rw=randrw --bsrange=4k-64k --size=512k --direct=1 --iodepth=16 \
    --ioengine=io_uring --verify=crc32c --verify_fatal=1 --do_verify=1 --output-format=terse`);

for (const options of [
  { packed: true, indirect: true },
  // One lap is a few requests.
  { packed: true, inOrder: true, queueSize: 32 },
  { packed: false, inOrder: true },
] as Partial<ServeOptions>[])
  test(`a file, random traffic with verification, served with ${JSON.stringify(options)}`, async () => {
    const file = imageFile(BYTES);
    const model = new BlockDevice({ file });
    await withDisk(model, { driver: 'virtio_vdpa', ...options }, async ({ path, device, errors }) => {
      assert.is(acceptedFeature(path, VIRTIO_F_RING_PACKED), options.packed);
      // Drivers use rings in order since Linux 7.0.
      assert.is(acceptedFeature(path, VIRTIO_F_IN_ORDER), options.inOrder === true && kernelIsSince('7.0'));
      await verify(path);
      shell(`sync; echo 3 > /proc/sys/vm/drop_caches; cmp ${path} ${file}`);
      assert.ok(device.stats().requests > 20);
      assert.equal(errors, []);
    });
  });

test('a packed ring of requests that end in any order', async () => {
  await withDisk(new Shuffled(), { driver: 'virtio_vdpa', packed: true }, async ({ path, errors }) => {
    assert.ok(acceptedFeature(path, VIRTIO_F_RING_PACKED));
    await verify(path);
    assert.equal(errors, []);
  });
});

test.run();
