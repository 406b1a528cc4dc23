import * as assert from 'uvu/assert';
import { u64 } from '../../../host/uapi/codec.js';
import * as vduse from '../../../host/uapi/vduse.js';
import * as vhost from '../../../host/uapi/vhost.js';
import { onMemory, PAGE, region } from '../mapping.js';
import { fails, iotlbMessage, LAST_IOVA, mask } from '../protocol.js';
import { onScene, type Rule } from '../rule.js';
import { lacksApi1 } from './lacks.js';

const { VHOST_IOTLB_UPDATE, VHOST_IOTLB_INVALIDATE, VHOST_IOTLB_BATCH_BEGIN, VHOST_IOTLB_BATCH_END } = vhost;

/** Bytes of a vhost_msg_v2 that the kernel looks at: up to the end of its vhost_iotlb_msg. */
const MESSAGE_BYTES = 40;

/** The form of IOTLB messages, and who may send which. */
export const iotlbMessageRules: readonly Rule[] = [
  {
    name: 'messages other than those of the protocol are EFAULT, those of no known version EINVAL',
    source: 'vhost_vdpa_process_iotlb_msg, vhost_chr_write_iter',
    play: onScene(async ({ driver }) => {
      for (const type of [vhost.VHOST_IOTLB_MISS, vhost.VHOST_IOTLB_ACCESS_FAIL, 0, 7]) {
        await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_BEGIN));
        await fails(driver.write(iotlbMessage(type, { size: PAGE })), 'EFAULT', 'write');
      }
      for (const type of [0, 3, 0xffff_ffff])
        await fails(driver.write(vhost.vhostMsgV2.encode({ type })), 'EINVAL', 'write');
    }),
  },
  {
    name: 'a message counts from 40 bytes on, shorter is EINVAL; the rest of its 72 bytes is padding',
    source: 'vhost_chr_write_iter',
    play: onMemory(async ({ device, driver }, uaddr) => {
      const v2 = iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: PAGE, uaddr });
      const iotlb = { iova: 4n * PAGE, size: PAGE, uaddr, perm: 3, type: VHOST_IOTLB_UPDATE };
      const v1 = vhost.vhostMsg.encode({ type: vhost.VHOST_IOTLB_MSG, iotlb });
      for (const message of [v1, v2])
        for (const bytes of [3, 4, 8, MESSAGE_BYTES - 1])
          await fails(driver.write(message.subarray(0, bytes)), 'EINVAL', 'write');
      assert.is(await region(device), undefined);
      for (const message of [v1, v2]) await driver.write(message.subarray(0, MESSAGE_BYTES));
      assert.is((await region(device))?.start, PAGE);
      assert.is((await region(device, 4n * PAGE))?.start, 4n * PAGE);
    }),
  },
  {
    name: 'a message of version 1 says the same',
    source: 'vhost_chr_write_iter',
    play: onMemory(async ({ device, driver }, uaddr) => {
      const iotlb = { iova: PAGE, size: PAGE, uaddr, perm: 3, type: VHOST_IOTLB_UPDATE };
      await driver.write(vhost.vhostMsg.encode({ type: vhost.VHOST_IOTLB_MSG, iotlb }));
      assert.is((await region(device))?.start, PAGE);
    }),
  },
  {
    name: 'without an owner every message is EFAULT',
    source: 'vhost_vdpa_process_iotlb_msg',
    play: onScene(async ({ reopen }) => {
      const driver = await reopen();
      await fails(driver.write(iotlbMessage(VHOST_IOTLB_BATCH_BEGIN)), 'EFAULT', 'write');
      await driver.ioctl(vhost.VHOST_SET_OWNER);
      await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_BEGIN));
    }),
  },
  {
    name: 'before anything is mapped there is no address space to invalidate, and no batch to end',
    source: 'vhost_vdpa_process_iotlb_msg',
    play: onScene(async ({ driver }) => {
      const all = { iova: 0n, size: LAST_IOVA };
      await fails(driver.write(iotlbMessage(VHOST_IOTLB_INVALIDATE, all)), 'EFAULT', 'write');
      await fails(driver.write(iotlbMessage(VHOST_IOTLB_BATCH_END)), 'EFAULT', 'write');
      await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_BEGIN));
      await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_END));
      await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_END));
      await driver.write(iotlbMessage(VHOST_IOTLB_INVALIDATE, all));
    }),
  },
  {
    name: 'without its backend feature the address space of a message is not looked at',
    source: 'vhost_chr_write_iter',
    play: onMemory(async ({ device, driver }, uaddr) => {
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: PAGE, uaddr }, 7));
      assert.is((await region(device))?.start, PAGE);
      const acknowledged = u64.encode(mask(vhost.VHOST_BACKEND_F_IOTLB_ASID));
      await driver.ioctl(vhost.VHOST_SET_BACKEND_FEATURES, acknowledged);
      const update = (asid: number) =>
        driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0n, size: PAGE, uaddr }, asid));
      await fails(update(7), 'EFAULT', 'write');
      await update(0);
    }),
  },
  {
    name: 'address spaces are apart, and a batch belongs to one',
    source: 'vhost_vdpa_process_iotlb_msg',
    lacks: lacksApi1,
    play: onMemory(
      async ({ device, driver, responder }, uaddr) => {
        const update = (iova: bigint, asid: number) =>
          driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova, size: PAGE, uaddr }, asid));
        const refused = (call: Promise<void>) => fails(call, 'EFAULT', 'write');
        const acknowledged = u64.encode(mask(vhost.VHOST_BACKEND_F_IOTLB_ASID));
        await driver.ioctl(vhost.VHOST_SET_BACKEND_FEATURES, acknowledged);
        await update(0n, 0);
        await update(0n, 1);
        await refused(update(PAGE, 2));
        await refused(update(0n, 0));
        assert.is(responder.of(vduse.VDUSE_UPDATE_IOTLB).at(-1)?.iova_v2.asid, 1);
        assert.is(await region(device, PAGE, LAST_IOVA, 1), undefined);
        assert.is(await region(device, 0n, LAST_IOVA, 2), undefined);
        await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_BEGIN, {}, 1));
        await refused(update(PAGE, 0));
        await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_END, {}, 1));
        await update(PAGE, 0);
        assert.is((await region(device, PAGE, LAST_IOVA, 0))?.start, PAGE);
        // A message of version 1 has no address space to say.
        const iotlb = { iova: 0n, size: PAGE, uaddr: 0n, perm: 0, type: VHOST_IOTLB_INVALIDATE };
        await driver.write(vhost.vhostMsg.encode({ type: vhost.VHOST_IOTLB_MSG, iotlb }));
        assert.is((await region(device, 0n, LAST_IOVA, 0))?.start, PAGE);
        assert.is((await region(device, 0n, LAST_IOVA, 1))?.start, 0n);
      },
      { apiVersion: 1n, ngroups: 2, nas: 2 },
    ),
  },
];
