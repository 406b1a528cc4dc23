import { readFileSync, readSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { isSystemError } from '../../../host/errors.js';
import { loadAddon } from '../../../host/native/addon.js';
import { u64 } from '../../../host/uapi/codec.js';
import * as vduse from '../../../host/uapi/vduse.js';
import * as vhost from '../../../host/uapi/vhost.js';
import type { VduseFile } from '../../../host/vduse/file.js';
import { fails, iotlbMessage, LAST_IOVA, mask, NAME, REFUSED, type Request, setStatus } from '../protocol.js';
import { onScene, type Rule, type Scene, type SceneOptions } from '../rule.js';
import { lacksApi1, lacksDmaMap, lacksSetMap } from './lacks.js';

const { VHOST_IOTLB_UPDATE, VHOST_IOTLB_INVALIDATE, VHOST_IOTLB_BATCH_BEGIN, VHOST_IOTLB_BATCH_END } = vhost;
const PAGE = 4096n;
/** Bytes of a vhost_msg_v2 that the kernel looks at: up to the end of its vhost_iotlb_msg. */
const MESSAGE_BYTES = 40;

/** Flag of a descriptor in /proc/self/fdinfo. */
const O_CLOEXEC = 0o2000000;

/** Pages of a driver's memory that a rule can map. */
const PAGES = 16;

/** A rule's `play` on a scene whose driver has memory at `uaddr`: pages that begin with their number. */
function onMemory(
  act: (scene: Scene, uaddr: bigint) => Promise<void>,
  options: SceneOptions = {},
): Rule['play'] {
  return onScene(async (scene) => {
    const { address } = await scene.world.memory([{ page: 0, pages: PAGES }]);
    await act(scene, address);
  }, options);
}

/** What the device finds in [start, last] of an address space; undefined for nothing. */
async function region(device: VduseFile, start = 0n, last = LAST_IOVA, asid?: number) {
  const codec = asid === undefined ? vduse.vduseIotlbEntry : vduse.vduseIotlbEntryV2;
  const argument = codec.encode({ start, last, ...(asid === undefined ? {} : { asid }) });
  const request = asid === undefined ? vduse.VDUSE_IOTLB_GET_FD : vduse.VDUSE_IOTLB_GET_FD2;
  let fd: number;
  try {
    fd = await device.ioctl(request, argument);
  } catch (error) {
    if (isSystemError(error, 'EINVAL')) return undefined;
    throw error;
  }
  const entry = vduse.vduseIotlbEntry.decode(argument);
  const byte = new Uint8Array(1);
  readSync(fd, byte, 0, 1, Number(entry.offset));
  loadAddon().close(fd);
  return { ...entry, firstByte: byte[0] };
}

/** The ranges that the device was told of. */
function updates(requests: readonly Request[]): [bigint, bigint][] {
  return requests
    .filter(({ type }) => type === vduse.VDUSE_UPDATE_IOTLB)
    .map(({ iova }) => [iova.start, iova.last]);
}

/** IOTLB messages, and VDUSE_IOTLB_GET_FD on what they made. */
export const iotlbRules: readonly Rule[] = [
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
  {
    name: 'a descriptor given for a region is a fresh one, which a child process inherits',
    source: 'vduse_dev_ioctl, VDUSE_IOTLB_GET_FD',
    differs: [{ at: 'bus', why: 'it is close-on-exec there, like every other descriptor of the package' }],
    play: onMemory(async ({ at, device, driver }, uaddr) => {
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: 8192n, uaddr }));
      const entry = () => vduse.vduseIotlbEntry.encode({ start: 5000n, last: 5000n });
      const first = await device.ioctl(vduse.VDUSE_IOTLB_GET_FD, entry());
      const second = await device.ioctl(vduse.VDUSE_IOTLB_GET_FD, entry());
      assert.is.not(first, second);
      const flags = /flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${first}`, 'utf8'))?.[1];
      assert.is((Number.parseInt(flags!, 8) & O_CLOEXEC) !== 0, at('bus'));
      for (const fd of [first, second]) loadAddon().close(fd);
    }),
  },
  {
    name: 'reserved fields of VDUSE_IOTLB_GET_FD2 are zero, else EINVAL',
    source: 'vduse_dev_ioctl, VDUSE_IOTLB_GET_FD2',
    lacks: lacksApi1,
    play: onMemory(
      async ({ device, driver }, uaddr) => {
        await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: PAGE, uaddr }));
        const reserved = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        const entry = vduse.vduseIotlbEntryV2.encode({ start: 0n, last: LAST_IOVA, reserved });
        await fails(device.ioctl(vduse.VDUSE_IOTLB_GET_FD2, entry), 'EINVAL', 'ioctl');
        assert.is((await region(device, 0n, LAST_IOVA, 0))?.start, PAGE);
      },
      { apiVersion: 1n },
    ),
  },
  {
    name: 'a region can be asked for without its file; with vhost-vdpa it is never a bounce buffer',
    source: 'vduse_dev_ioctl, VDUSE_IOTLB_GET_INFO',
    play: onMemory(async ({ device, driver }, uaddr) => {
      const info = vduse.vduseIovaInfo.encode({ start: 0n, last: LAST_IOVA });
      await fails(device.ioctl(vduse.VDUSE_IOTLB_GET_INFO, info), 'EINVAL', 'ioctl');
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: 8192n, uaddr }));
      await device.ioctl(vduse.VDUSE_IOTLB_GET_INFO, info);
      const { start, last, capability } = vduse.vduseIovaInfo.decode(info);
      assert.equal([start, last, capability], [PAGE, PAGE + 8191n, 0n]);
      const reversed = vduse.vduseIovaInfo.encode({ start: 2n, last: 1n });
      await fails(device.ioctl(vduse.VDUSE_IOTLB_GET_INFO, reversed), 'EINVAL', 'ioctl');
    }),
  },
  {
    name: 'VDUSE_IOTLB_GET_INFO answers EFAULT to reserved fields and to an unknown address space',
    source: 'vduse_dev_ioctl, VDUSE_IOTLB_GET_INFO',
    differs: [{ at: '6.12', why: 'EINVAL until the ioctl learnt of address spaces' }],
    play: onScene(async ({ at, device }) => {
      const errno = at('6.12') ? 'EINVAL' : 'EFAULT';
      for (const bad of [{ reserved: [0, 0, 0, 0, 1] }, { asid: 1 }]) {
        const info = vduse.vduseIovaInfo.encode({ last: LAST_IOVA, ...bad });
        await fails(device.ioctl(vduse.VDUSE_IOTLB_GET_INFO, info), errno, 'ioctl');
      }
    }),
  },
];
