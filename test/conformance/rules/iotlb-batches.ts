import * as assert from 'uvu/assert';
import { u64 } from '../../../host/uapi/codec.js';
import * as vhost from '../../../host/uapi/vhost.js';
import { onMemory, PAGE, region, updates } from '../mapping.js';
import { fails, iotlbMessage, LAST_IOVA, REFUSED, setStatus } from '../protocol.js';
import { onScene, type Rule } from '../rule.js';
import { lacksDmaMap, lacksSetMap } from './lacks.js';

const { VHOST_IOTLB_UPDATE, VHOST_IOTLB_INVALIDATE, VHOST_IOTLB_BATCH_BEGIN, VHOST_IOTLB_BATCH_END } = vhost;

/** Updates between VHOST_IOTLB_BATCH_BEGIN and VHOST_IOTLB_BATCH_END. */
export const iotlbBatcheRules: readonly Rule[] = [
  {
    name: 'batches can be opened without the backend feature being acknowledged',
    source: 'vhost_vdpa_process_iotlb_msg',
    play: onScene(async ({ driver }) => {
      await driver.ioctl(vhost.VHOST_SET_BACKEND_FEATURES, u64.encode(0n));
      await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_BEGIN));
      await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_END));
    }),
  },
  {
    name: 'a batch is one message to the device, at its end',
    source: 'vhost_vdpa_process_iotlb_msg',
    lacks: lacksSetMap,
    play: onMemory(async ({ device, driver, responder }, uaddr) => {
      await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_BEGIN));
      for (const page of [0n, 1n, 2n])
        await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: page * PAGE, size: PAGE, uaddr }));
      await driver.write(iotlbMessage(VHOST_IOTLB_INVALIDATE, { iova: PAGE, size: PAGE }));
      assert.equal(updates(responder.requests), []);
      assert.is(await region(device), undefined);
      await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_END));
      assert.equal(updates(responder.requests), [[0n, LAST_IOVA]]);
      assert.is((await region(device, PAGE))?.start, 2n * PAGE);
    }),
  },
  {
    name: 'a batch that the device refuses looks like success, and the device has nothing',
    source: 'vhost_vdpa_process_iotlb_msg',
    lacks: lacksSetMap,
    play: onMemory(async ({ device, driver, responder }, uaddr) => {
      await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_BEGIN));
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0n, size: PAGE, uaddr }));
      responder.answer = () => REFUSED;
      await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_END));
      assert.is(await region(device), undefined);
    }),
  },
  {
    name: 'what a batch takes and maps again, the device never misses',
    source: 'vhost_vdpa_process_iotlb_msg',
    lacks: lacksSetMap,
    play: onMemory(async ({ device, driver, responder }, uaddr) => {
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0n, size: 4n * PAGE, uaddr }));
      const before = updates(responder.requests).length;
      const seen: unknown[] = [];
      responder.answer = async () => {
        seen.push((await region(device))?.last);
        return {};
      };
      await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_BEGIN));
      await driver.write(iotlbMessage(VHOST_IOTLB_INVALIDATE, { iova: 0n, size: 4n * PAGE }));
      assert.is((await region(device))?.last, 4n * PAGE - 1n);
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0n, size: PAGE, uaddr }));
      assert.is((await region(device))?.last, 4n * PAGE - 1n);
      await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_END));
      assert.equal(seen, [PAGE - 1n]);
      assert.is(updates(responder.requests).length, before + 1);
    }),
  },
  {
    name: 'the update after a batch that was refused gives the device the whole table, and its answer is told',
    source: 'vhost_vdpa_map, vhost_vdpa_process_iotlb_msg',
    lacks: lacksSetMap,
    play: onMemory(async ({ device, driver, responder }, uaddr) => {
      const update = (page: bigint) =>
        driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: page * PAGE, size: PAGE, uaddr }));
      responder.answer = () => REFUSED;
      await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_BEGIN));
      for (const page of [1n, 3n]) await update(page);
      await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_END));
      await fails(update(5n), 'EFAULT', 'write');
      assert.is(await region(device), undefined);
      responder.answer = () => ({});
      await update(7n);
      for (const page of [1n, 3n, 7n]) assert.is((await region(device, page * PAGE))?.start, page * PAGE);
      assert.is(await region(device, 5n * PAGE, 6n * PAGE), undefined);
    }),
  },
  {
    name: 'a batch of single mappings changes nothing: every update is a message',
    source: 'vhost_vdpa_map',
    lacks: lacksDmaMap,
    play: onMemory(async ({ driver, responder }, uaddr) => {
      await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_BEGIN));
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: PAGE, uaddr }));
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0n, size: PAGE, uaddr }));
      await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_END));
      assert.equal(updates(responder.requests), [
        [PAGE, 2n * PAGE - 1n],
        [0n, PAGE - 1n],
      ]);
    }),
  },
  {
    name: 'a reset in the middle of a batch leaves it open',
    source: '_compat_vdpa_reset',
    lacks: lacksSetMap,
    play: onMemory(async ({ device, driver, responder }, uaddr) => {
      await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_BEGIN));
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: PAGE, uaddr }));
      await setStatus(driver, 0);
      assert.equal(updates(responder.requests), []);
      await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_END));
      assert.is((await region(device))?.start, PAGE);
    }),
  },
];
