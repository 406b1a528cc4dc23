import { fstatSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { addressSpace } from '../../host/aperture/address-space.js';
import { Aperture } from '../../host/aperture/aperture.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import type { MmapRequest, VhostVdpaFile } from '../../host/vhost-vdpa/file.js';
import { fails, iotlbMessage, NAME, scene } from './fixture.js';

const PAGE = 4096;
const aperture = Aperture.create({ bytes: 2 ** 20, privateBytes: 2 ** 16 });
const GOOD: MmapRequest = { length: PAGE, protection: 'w', shared: true, offset: 0 };

function mmap(driver: VhostVdpaFile, request: Partial<MmapRequest> = {}, linear?: number): Promise<void> {
  return driver.mmap(aperture, linear ?? aperture.reserveWindow(PAGE).linear, { ...GOOD, ...request });
}

test('most parents have no doorbell page: 524', async () => {
  await scene(async ({ driver, doorbellFd }) => {
    assert.is(doorbellFd, -1);
    const error = await fails(mmap(driver), 'ENOTSUPP', 'mmap');
    assert.is((error as NodeJS.ErrnoException).errno, -524);
    // Asked before the queue index is.
    await fails(mmap(driver, { offset: 99 * PAGE }), 'ENOTSUPP');
  });
});

test('a mapping other than one page, shared, for writing only, is EINVAL on any parent', async () => {
  for (const doorbell of ['none', 'page'] as const)
    await scene(
      async ({ driver }) => {
        for (const request of [
          { length: 2 * PAGE },
          { length: 0 },
          { length: 2048 },
          { shared: false },
          { protection: 'r' },
          { protection: 'rw' },
          { offset: 2048 },
        ] as const)
          await fails(mmap(driver, request), 'EINVAL', 'mmap');
      },
      { doorbell },
    );
});

test('a queue that the device does not have has no doorbell: EINVAL', async () => {
  await scene(
    async ({ driver }) => {
      for (const index of [2, 65536, -1]) await fails(mmap(driver, { offset: index * PAGE }), 'EINVAL');
    },
    { doorbell: 'page' },
  );
});

test('a store to the page of a queue shows on the device’s side, on the page of that queue', async () => {
  await scene(
    async ({ driver, doorbellFd }) => {
      assert.is(fstatSync(doorbellFd).size, 2 * PAGE);
      const { linear } = aperture.reserveWindow(PAGE);
      await mmap(driver, { offset: PAGE }, linear);
      const device = Aperture.create({ bytes: 2 ** 20, privateBytes: 2 ** 16 });
      const watched = device.map({ fd: doorbellFd, offset: 0n }, 2 * PAGE, 'r');
      const source = aperture.allocate(8);
      const copy = device.allocate(8);
      aperture.u8.set([1, 0], source);
      aperture.engine.copy(linear, source, 2);
      for (const [queue, value] of [
        [0, 0],
        [1, 1],
      ] as const) {
        device.engine.copy(copy, watched.linear + queue * PAGE, 2);
        assert.is(device.data.getUint16(copy, true), value);
      }
      device.close();
    },
    { doorbell: 'page' },
  );
});

test('a doorbell page is no memory that a device can be given', async () => {
  await scene(
    async ({ driver, responder }) => {
      const { linear } = aperture.reserveWindow(PAGE);
      await mmap(driver, {}, linear);
      const uaddr = aperture.address + BigInt(linear);
      assert.equal(addressSpace.resolve(uaddr, BigInt(PAGE)), []);
      await driver.write(iotlbMessage(vhost.VHOST_IOTLB_UPDATE, { iova: 0n, size: BigInt(PAGE), uaddr }));
      assert.is(responder.of(vduse.VDUSE_UPDATE_IOTLB).length, 0);
    },
    { doorbell: 'page' },
  );
});

test('a driver that has closed, or whose device has gone, maps nothing', async () => {
  await scene(
    async ({ bus, driver }) => {
      await bus.detach(NAME);
      await fails(mmap(driver), 'ENODEV', 'mmap');
      await driver.close();
      await fails(mmap(driver), 'EBADF', 'mmap');
    },
    { doorbell: 'page' },
  );
});

test.run();
