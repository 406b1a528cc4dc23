/** Which pages a device writes, seen from the device, with this kernel between it and its driver. */
import { openSync, readSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BlockDevice } from '../../../host/index.js';
import { VIRTIO_CONFIG_S_DRIVER_OK } from '../../../host/uapi/virtio.js';
import { compare, fetchPages, migrate } from '../../models/dirty-traffic.js';
import { imageFile, openRawDriver, run, withDisk } from '../disk-fixture.js';

const BYTES = 2 ** 20;

for (const [name, model] of [
  ['memory', () => new BlockDevice({ memory: BYTES })],
  ['a file', () => new BlockDevice({ file: imageFile(BYTES) })],
] as const)
  test(`under vhost_vdpa a disk in ${name} marks what it writes, and nothing is lost on the move`, async () => {
    await withDisk(model(), { driver: 'vhost_vdpa' }, async ({ device, path, errors }) => {
      const driver = await openRawDriver(path);
      assert.ok((await driver.start()) & VIRTIO_CONFIG_S_DRIVER_OK);
      await device.dirtyLog.start();
      await compare(driver, device.dirtyLog, BYTES, 4);
      await migrate(driver, () => fetchPages(device.dirtyLog), BYTES, 12);
      await driver.reset();
      assert.ok((await driver.start()) & VIRTIO_CONFIG_S_DRIVER_OK);
      assert.ok(await driver.works());
      assert.ok((await fetchPages(device.dirtyLog)).length > 0, 'the log outlives a reset');
      await driver.close();
      assert.equal(errors, []);
    });
  });

test('under virtio_vdpa the pages of the bounce buffer are marked that reads have come through', async () => {
  await withDisk(
    new BlockDevice({ memory: BYTES }),
    { driver: 'virtio_vdpa' },
    async ({ device, path, errors }) => {
      await device.dirtyLog.start();
      const pagesOfReads = async (count: number) => {
        await device.dirtyLog.fetch();
        await run(`dd if=${path} of=/dev/null bs=64k count=${count} iflag=direct 2>&1`);
        return (await device.dirtyLog.fetch()).reduce((pages, range) => pages + range.pages, 0);
      };
      const pages = await pagesOfReads(8);
      // Data of 64 KiB at least; rings and status bytes have some more, and a bounce buffer is used again.
      assert.ok(pages >= 16, `${pages} pages`);
      await device.dirtyLog.stop();
      const fd = openSync(path, 'r');
      assert.is(readSync(fd, new Uint8Array(4096)), 4096);
      await device.dirtyLog.start();
      assert.ok((await device.dirtyLog.fetch()).every((range) => range.pages < 16));
      assert.equal(errors, []);
    },
  );
});

test.run();
