import * as assert from 'uvu/assert';
import * as vduse from '../../../host/uapi/vduse.js';
import * as vhost from '../../../host/uapi/vhost.js';
import { onMemory, PAGE, region, updates } from '../mapping.js';
import { fails, iotlbMessage, LAST_IOVA, REFUSED } from '../protocol.js';
import { onScene, type Rule } from '../rule.js';
import { lacksSetMap } from './lacks.js';

const { VHOST_IOTLB_UPDATE, VHOST_IOTLB_INVALIDATE } = vhost;

/** What an update makes of the driver’s memory. */
export const iotlbUpdateRules: readonly Rule[] = [
  {
    name: 'an update gives the device the file behind the memory',
    source: 'vhost_vdpa_va_map, vduse_vdpa_set_map',
    play: onMemory(async ({ world, device, driver, responder }, uaddr) => {
      const iova = 0x7f00_0000_0000n;
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova, size: 8192n, uaddr: uaddr + PAGE }));
      assert.equal(updates(responder.requests), [
        world.parent === 'set_map' ? [0n, LAST_IOVA] : [iova, iova + 8191n],
      ]);
      const expected = { offset: PAGE, start: iova, last: iova + 8191n, perm: 3, firstByte: 1 };
      assert.equal(await region(device), expected);
      const readOnly = { iova: 0n, size: PAGE, uaddr, perm: vhost.VHOST_ACCESS_RO };
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, readOnly));
      assert.is((await region(device))?.perm, vhost.VHOST_ACCESS_RO);
      assert.is((await region(device, iova, iova))?.start, iova);
      assert.is(await region(device, PAGE, iova - 1n), undefined);
      assert.is(await region(device, 2n, 1n), undefined);
    }),
  },
  {
    name: 'the new mapping is live when the message arrives',
    source: 'vduse_vdpa_set_map',
    play: onMemory(async ({ device, driver, responder }, uaddr) => {
      const seen: unknown[] = [];
      responder.answer = async ({ type }) => {
        if (type === vduse.VDUSE_UPDATE_IOTLB) seen.push((await region(device))?.start);
        return {};
      };
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: PAGE, uaddr }));
      await driver.write(iotlbMessage(VHOST_IOTLB_INVALIDATE, { iova: PAGE, size: PAGE }));
      assert.equal(seen, [PAGE, undefined]);
    }),
  },
  {
    name: 'whatever the reason for which an update is refused (EEXIST for an overlap), write says EFAULT',
    source: 'vhost_chr_write_iter, vhost_vdpa_process_iotlb_update',
    play: onMemory(async ({ device, driver }, uaddr) => {
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: 2n * PAGE, uaddr }));
      for (const [iova, size] of [
        [PAGE, 2n * PAGE],
        [0n, PAGE + 1n],
        [2n * PAGE, PAGE],
        [0n, LAST_IOVA],
      ] as const)
        await fails(driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova, size, uaddr })), 'EFAULT', 'write');
      assert.is((await region(device))?.last, 3n * PAGE - 1n);
    }),
  },
  {
    name: 'an update of no bytes is EINVAL, one past 2^64 EFAULT, one up to it is made',
    source: 'vhost_chr_write_iter, vhost_vdpa_process_iotlb_update',
    play: onMemory(async ({ device, driver }, uaddr) => {
      const update = (iova: bigint, size: bigint) =>
        driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova, size, uaddr }));
      await fails(update(0n, 0n), 'EINVAL', 'write');
      const iova = LAST_IOVA - PAGE + 1n;
      await fails(update(iova, PAGE + 1n), 'EFAULT', 'write');
      await fails(update(iova, LAST_IOVA), 'EFAULT', 'write');
      await update(iova, PAGE);
      assert.is((await region(device))?.last, LAST_IOVA);
    }),
  },
  {
    name: 'anonymous memory is skipped without a word',
    source: 'vhost_vdpa_va_map',
    play: onScene(async ({ world, device, driver, responder }) => {
      const { address } = await world.memory([{ anonymous: 1 }]);
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0n, size: PAGE, uaddr: address }));
      assert.equal(updates(responder.requests), []);
      assert.is(await region(device), undefined);
    }),
  },
  {
    name: 'an address above the process is EFAULT',
    source: 'vhost_vdpa_va_map',
    play: onScene(async ({ driver }) => {
      for (const uaddr of [2n ** 63n, LAST_IOVA - PAGE + 1n])
        await fails(
          driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0n, size: PAGE, uaddr })),
          'EFAULT',
          'write',
        );
    }),
  },
  {
    name: 'a range over two parts of a file and anonymous memory becomes two regions',
    source: 'vhost_vdpa_va_map',
    play: onScene(async ({ world, device, driver }) => {
      const { address } = await world.memory([
        { page: 2, pages: 1 },
        { anonymous: 2 },
        { page: 0, pages: 1 },
      ]);
      const range = { iova: 0x10_0000n, size: 4n * PAGE - 8n, uaddr: address + 8n };
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, range));
      const [first, second] = [await region(device), await region(device, range.iova + 2n * PAGE)];
      assert.equal([first?.start, first?.last, first?.offset], [0x10_0000n, 0x10_0000n + PAGE - 9n, 8200n]);
      assert.equal(
        [second?.start, second?.last, second?.offset],
        [0x10_0000n + 3n * PAGE - 8n, 0x10_0000n + 4n * PAGE - 9n, 0n],
      );
    }),
  },
  {
    name: 'a region outlives the descriptor that it came from',
    source: 'vhost_vdpa_va_map',
    play: onScene(async ({ world, device, driver }) => {
      const memory = await world.memory([{ page: 7, pages: 1 }]);
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0n, size: PAGE, uaddr: memory.address }));
      await memory.closeFile();
      assert.is((await region(device))?.firstByte, 7);
    }),
  },
  {
    name: 'memory whose descriptor was closed can still be given to a device',
    source: 'vhost_vdpa_va_map',
    differs: [
      {
        at: 'bus',
        why: 'a process knows its mappings by the descriptors that it made them with: without one, memory is skipped like anonymous memory',
      },
    ],
    play: onScene(async ({ world, at, device, driver }) => {
      const memory = await world.memory([{ page: 7, pages: 1 }]);
      await memory.closeFile();
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0n, size: PAGE, uaddr: memory.address }));
      assert.is((await region(device))?.firstByte, at('bus') ? undefined : 7);
    }),
  },
  {
    name: 'an update that the device refuses is EFAULT, and leaves the device what it had',
    source: 'vhost_vdpa_map, vduse_vdpa_set_map',
    play: onMemory(async ({ device, driver, responder }, uaddr) => {
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 8n * PAGE, size: PAGE, uaddr }));
      responder.answer = () => {
        responder.answer = () => ({});
        return REFUSED;
      };
      const update = iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: PAGE, uaddr });
      await fails(driver.write(update), 'EFAULT', 'write');
      assert.is((await region(device))?.start, 8n * PAGE);
      await driver.write(update);
      assert.is((await region(device))?.start, PAGE);
    }),
  },
  {
    name: 'a device that refuses twice is left with nothing, and the driver with what it had',
    source: 'vduse_vdpa_set_map',
    lacks: lacksSetMap,
    play: onMemory(async ({ device, driver, responder }, uaddr) => {
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 8n * PAGE, size: PAGE, uaddr }));
      responder.answer = () => REFUSED;
      const update = iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: PAGE, uaddr });
      await fails(driver.write(update), 'EFAULT', 'write');
      assert.is(await region(device), undefined);
      responder.answer = () => ({});
      await driver.write(update);
      assert.is((await region(device))?.start, PAGE);
      assert.is((await region(device, 8n * PAGE))?.start, 8n * PAGE);
    }),
  },
  {
    name: 'an update at IOVA 0 that the device refuses takes everything else with it',
    source: 'vhost_vdpa_va_map, vhost_vdpa_unmap of (0, 0 bytes)',
    play: onMemory(async ({ device, driver, responder }, uaddr) => {
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 8n * PAGE, size: PAGE, uaddr }));
      responder.answer = () => {
        responder.answer = () => ({});
        return REFUSED;
      };
      const update = iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0n, size: PAGE, uaddr });
      await fails(driver.write(update), 'EFAULT', 'write');
      assert.is(await region(device), undefined);
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 8n * PAGE, size: PAGE, uaddr }));
    }),
  },
];
