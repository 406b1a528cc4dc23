/** Drivers that leave in the middle of everything: the device answers at once, and the next driver finds it sound. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BlockDevice, BlockModel } from '../../../host/index.js';
import { imageFile, openRawDriver, run, withDisk } from '../disk-fixture.js';
import { bindDriver, shell, unbindDriver, until } from '../fixture.js';

const BYTES = 8 * 2 ** 20;
/** Milliseconds for which a model keeps the event loop. */
const BLOCKED_MS = 4000;

/** What keeps a disk busy until it is told to end: of a disk that has gone it reads no bytes, again and again. */
const TRAFFIC = [
  ...[
    '--name=traffic',
    '--rw=randread',
    '--bsrange=4k-128k',
    '--direct=1',
    '--iodepth=32',
    '--ioengine=io_uring',
  ],
  ...['--time_based', '--runtime=60'],
];

for (const options of [{}, { umem: false }])
  test(`virtio_vdpa is unbound in mid-traffic and bound again, with ${JSON.stringify(options)}`, async () => {
    const file = imageFile(BYTES);
    await withDisk(
      new BlockDevice({ file }),
      { driver: 'virtio_vdpa', ...options },
      async ({ name, path: first, errors }) => {
        let path = first;
        for (let round = 0; round < 5; round++) {
          const traffic = spawn('fio', [...TRAFFIC, `--filename=${path}`], { stdio: 'ignore' });
          const ended = once(traffic, 'exit');
          await until('traffic', () =>
            /[1-9]/.test(readFileSync(`/sys/block/${basename(path)}/inflight`, 'utf8')),
          );
          await unbindDriver(name);
          // Elsewhere, perhaps: who has the old node open keeps its name.
          path = await bindDriver(name, 'virtio_vdpa');
          traffic.kill();
          await ended;
          shell(`cmp ${path} ${file}`);
        }
        assert.equal(errors, []);
      },
    );
  });

/** A driver in a process of its own: offers a request, leaves before it is answered, comes back, and says when it has. */
const IMPATIENT = `
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
const { RawDriver } = await import('${new URL('../../models/raw-driver.js', import.meta.url)}');
const { openVhostVdpaFile } = await import('${new URL('../../../host/vhost-vdpa/open.js', import.meta.url)}');
const kernel = { openVhostVdpa: (path) => openVhostVdpaFile(path) };
const path = process.argv[1];
const driver = await RawDriver.open(kernel, path);
await driver.start();
driver.request(0, 0n, 512).catch(() => {});
await delay(500);
await driver.close();
await (await RawDriver.open(kernel, path)).start();
console.log(readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
process.exit();
`;

test('messages are answered while a model keeps the event loop', async () => {
  let endedAt = 0;
  class Busy extends BlockModel {
    override capacity = BYTES;

    override read(): void {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, BLOCKED_MS);
      endedAt = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
    }
  }
  await withDisk(new Busy(), { driver: 'vhost_vdpa' }, async ({ path, errors }) => {
    const back = Number(await run(`${process.execPath} --input-type=module -e "${IMPATIENT}" ${path}`));
    assert.ok(endedAt > 0, 'the model was asked');
    assert.ok(back < endedAt, `the driver was back at ${back} s, the model at ${endedAt} s`);
    assert.equal(errors, []);
  });
});

test('a queue that becomes ready after DRIVER_OK is served', async () => {
  await withDisk(new BlockDevice({ memory: BYTES }), { driver: 'vhost_vdpa' }, async ({ path, errors }) => {
    const driver = await openRawDriver(path);
    await driver.start({ late: true });
    await driver.enable();
    assert.ok(await driver.works());
    // Again in a second life, with a request that waits already.
    await driver.reset();
    await driver.start({ late: true });
    const works = driver.works();
    await driver.enable();
    assert.ok(await works);
    await driver.close();
    assert.equal(errors, []);
  });
});

test.run();
