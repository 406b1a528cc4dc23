import * as assert from 'uvu/assert';
import { u64 } from '../../../host/uapi/codec.js';
import * as vhost from '../../../host/uapi/vhost.js';
import { onMemory, PAGE, region, updates } from '../mapping.js';
import { iotlbMessage, LAST_IOVA, REFUSED, setStatus } from '../protocol.js';
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
