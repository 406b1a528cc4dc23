import * as assert from 'uvu/assert';
import * as vhost from '../../../host/uapi/vhost.js';
import { onMemory, PAGE, region, updates } from '../mapping.js';
import { fails, iotlbMessage, LAST_IOVA, NAME, REFUSED, setStatus } from '../protocol.js';
import type { Rule } from '../rule.js';
import { lacksDmaMap, lacksSetMap } from './lacks.js';

const { VHOST_IOTLB_UPDATE, VHOST_IOTLB_INVALIDATE } = vhost;

/** What takes mappings away: invalidations, resets, closing. */
export const iotlbInvalidationRules: readonly Rule[] = [
  {
    name: 'an invalidation of no bytes is taken: its range wraps, and from IOVA 0 covers everything',
    source: 'vhost_vdpa_unmap',
    play: onMemory(async ({ device, driver }, uaddr) => {
      const invalidate = (iova: bigint) =>
        driver.write(iotlbMessage(VHOST_IOTLB_INVALIDATE, { iova, size: 0n }));
      for (const page of [1n, 3n])
        await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: page * PAGE, size: PAGE, uaddr }));
      await invalidate(PAGE);
      await invalidate(2n * PAGE);
      assert.is((await region(device))?.start, PAGE);
      await invalidate(0n);
      assert.is(await region(device), undefined);
    }),
  },
  {
    name: 'invalidation removes whatever it touches, whole',
    source: 'vhost_vdpa_va_unmap',
    play: onMemory(async ({ device, driver }, uaddr) => {
      for (const page of [1n, 3n, 5n])
        await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: page * PAGE, size: PAGE, uaddr }));
      await driver.write(iotlbMessage(VHOST_IOTLB_INVALIDATE, { iova: 2n * PAGE - 1n, size: PAGE + 2n }));
      assert.is((await region(device))?.start, 5n * PAGE);
      await driver.write(iotlbMessage(VHOST_IOTLB_INVALIDATE, { iova: 0n, size: LAST_IOVA }));
      assert.is(await region(device), undefined);
    }),
  },
  {
    name: 'an invalidation that passes 2^64 wraps, and removes nothing',
    source: 'vhost_vdpa_unmap',
    play: onMemory(async ({ device, driver }, uaddr) => {
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 4n * PAGE, size: PAGE, uaddr }));
      await driver.write(iotlbMessage(VHOST_IOTLB_INVALIDATE, { iova: 2n * PAGE, size: LAST_IOVA }));
      assert.is((await region(device))?.start, 4n * PAGE);
    }),
  },
  {
    name: 'an invalidation that the device refuses looks like success, and has happened',
    source: 'vhost_vdpa_unmap',
    play: onMemory(async ({ device, driver, responder }, uaddr) => {
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0n, size: PAGE, uaddr }));
      responder.answer = () => REFUSED;
      await driver.write(iotlbMessage(VHOST_IOTLB_INVALIDATE, { iova: 0n, size: PAGE }));
      assert.is(await region(device), undefined);
    }),
  },
  {
    name: 'a reset leaves the mappings, and so does a driver that closes, until the next driver maps',
    source: 'vhost_vdpa_remove_as',
    lacks: lacksSetMap,
    play: onMemory(async ({ world, device, driver, responder }, uaddr) => {
      const update = iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: PAGE, uaddr });
      await driver.write(update);
      await setStatus(driver, 0);
      assert.is((await region(device))?.start, PAGE);
      await fails(driver.write(update), 'EFAULT', 'write');
      const before = updates(responder.requests).length;
      await driver.close();
      assert.is((await region(device))?.start, PAGE);
      assert.is(updates(responder.requests).length, before);

      const next = await world.open(NAME);
      await next.ioctl(vhost.VHOST_SET_OWNER);
      await next.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 8n * PAGE, size: PAGE, uaddr }));
      assert.is((await region(device))?.start, 8n * PAGE);
    }),
  },
  {
    name: 'a reset drops the device’s mappings and not vhost’s, closing drops both',
    source: 'vhost_vdpa_remove_as',
    lacks: lacksDmaMap,
    play: onMemory(async ({ world, device, driver, responder }, uaddr) => {
      const update = iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: PAGE, uaddr });
      await driver.write(update);
      await setStatus(driver, 0);
      assert.is(await region(device), undefined);
      await fails(driver.write(update), 'EFAULT', 'write');
      const before = updates(responder.requests).length;
      await driver.close();
      assert.is(updates(responder.requests).length, before + 1);
      assert.equal(updates(responder.requests).at(-1), [PAGE, 2n * PAGE - 1n]);
      const next = await world.open(NAME);
      await next.ioctl(vhost.VHOST_SET_OWNER);
      await next.write(update);
    }),
  },
];
