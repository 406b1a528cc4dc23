import { closeSync, readdirSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Aperture } from '../../host/aperture/aperture.js';
import type { ParentKind } from '../../host/bus/index.js';
import { isSystemError } from '../../host/errors.js';
import { loadAddon } from '../../host/native/addon.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import { PAGE, region } from '../conformance/mapping.js';
import { fails, iotlbMessage, LAST_IOVA, scene as playScene, type Scene, SharedMemory } from './fixture.js';

const { VHOST_IOTLB_UPDATE, VHOST_IOTLB_INVALIDATE } = vhost;
const PARENTS: ParentKind[] = ['set_map', 'dma_map'];
const memory = new SharedMemory(65536);
memory.bytes.forEach((_, index, bytes) => {
  bytes[index] = index >> 12;
});
const uaddr = memory.address;

/** A write that the kernel answers with EFAULT, for this reason of its own. */
async function refused(call: Promise<void>, reason: string): Promise<void> {
  const error = await fails(call, 'EFAULT', 'write');
  assert.ok(isSystemError(error.cause, reason), `${error.cause} is not ${reason}`);
}

const each = (name: string, act: (scene: Scene, parent: ParentKind) => Promise<void>) => {
  for (const parent of PARENTS)
    test(`${parent}: ${name}`, () => playScene((scene) => act(scene, parent), { parent }));
};

each('an overlap is refused with EEXIST, which write(2) shows as EFAULT', async ({ device, driver }) => {
  await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: 2n * PAGE, uaddr }));
  for (const [iova, size] of [
    [PAGE, 2n * PAGE],
    [0n, PAGE + 1n],
    [2n * PAGE, PAGE],
    [0n, LAST_IOVA],
  ] as const)
    await refused(driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova, size, uaddr })), 'EEXIST');
  assert.is((await region(device))?.last, 3n * PAGE - 1n);
});

each(
  'an update that the device refuses is refused with EIO, and is not there',
  async ({ device, driver, responder }) => {
    await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0n, size: PAGE, uaddr }));
    responder.answer = () => ({ result: vduse.VDUSE_REQ_RESULT_FAILED });
    const update = iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: PAGE, uaddr });
    await refused(driver.write(update), 'EIO');
    assert.is(await region(device, PAGE, PAGE), undefined);
    responder.answer = () => ({});
    await driver.write(update);
    assert.is((await region(device, PAGE, PAGE))?.start, PAGE);
  },
);

each(
  'a driver leaves no descriptor behind, whatever became of its updates',
  async ({ bus, device, driver, responder }) => {
    const count = () => readdirSync('/proc/self/fd').length;
    const update = (iova: bigint) =>
      driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova, size: PAGE, uaddr }));
    const invalidate = () => driver.write(iotlbMessage(VHOST_IOTLB_INVALIDATE, { iova: 0n, size: PAGE }));
    const before = count();
    for (let round = 0; round < 3; round++) {
      await update(0n);
      responder.answer = () => ({ result: vduse.VDUSE_REQ_RESULT_FAILED });
      await refused(update(PAGE), 'EIO');
      responder.answer = () => ({});
      await region(device);
      await invalidate();
    }
    assert.is(count(), before);
    await update(0n);
    await bus.close();
    assert.is(count(), before);
  },
);

each(
  'memory whose descriptor was closed is skipped, even when another file has its number',
  async ({ device, driver }) => {
    const gone = new SharedMemory(4096);
    closeSync(gone.fd);
    const other = loadAddon().memfd('other', 4096, true);
    assert.is(other, gone.fd);
    await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0n, size: PAGE, uaddr: gone.address }));
    assert.is(await region(device), undefined);
    closeSync(other);
  },
);

each(
  'an update over two files gives the device those that were there when it was made',
  async ({ device, driver, responder }) => {
    const addon = loadAddon();
    const aperture = Aperture.create({ bytes: 2 ** 24, privateBytes: 2 ** 16 });
    const window = aperture.reserveWindow(2 * 4096);
    const files = [addon.memfd('a', 4096, true), addon.memfd('b', 4096, true)];
    for (const [index, fd] of files.entries())
      aperture.mapAt(window.linear + index * 4096, { fd, offset: 0n }, 4096, 'rw');
    aperture.viewOwn(window).fill(1, 0, 4096).fill(2, 4096);
    let other = -1;
    responder.answer = () => {
      // The driver's descriptor of the second file comes to name another while the device is told of the first.
      if (other < 0) {
        other = addon.memfd('other', 4096, true);
        addon.duplicate(other, files[1]);
      }
      return {};
    };
    await driver.write(
      iotlbMessage(VHOST_IOTLB_UPDATE, {
        iova: 0n,
        size: 2n * PAGE,
        uaddr: aperture.address + BigInt(window.linear),
      }),
    );
    assert.is((await region(device, 0n))?.firstByte, 1);
    assert.is((await region(device, PAGE))?.firstByte, 2);
    aperture.close();
    for (const fd of [...files, other]) closeSync(fd);
  },
);

test.run();
