import { closeSync, readdirSync, readSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Aperture } from '../../host/aperture/aperture.js';
import type { ParentKind } from '../../host/bus/index.js';
import { isSystemError } from '../../host/errors.js';
import { loadAddon } from '../../host/native/addon.js';
import { u64 } from '../../host/uapi/codec.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import type { VduseFile } from '../../host/vduse/file.js';
import {
  fails,
  iotlbMessage,
  LAST_IOVA,
  NAME,
  scene as playScene,
  type Request,
  type Scene,
  SharedMemory,
  setStatus,
} from './fixture.js';

const { VHOST_IOTLB_UPDATE, VHOST_IOTLB_INVALIDATE, VHOST_IOTLB_BATCH_BEGIN, VHOST_IOTLB_BATCH_END } = vhost;
const PARENTS: ParentKind[] = ['set_map', 'dma_map'];
const PAGE = 4096n;
const memory = new SharedMemory(65536);
memory.bytes.forEach((_, index, bytes) => {
  bytes[index] = index >> 12;
});
const uaddr = memory.address;

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
  closeSync(fd);
  return { ...entry, firstByte: byte[0] };
}

/** The ranges that the device was told of. */
function updates(requests: readonly Request[]): [bigint, bigint][] {
  return requests
    .filter(({ type }) => type === vduse.VDUSE_UPDATE_IOTLB)
    .map(({ iova }) => [iova.start, iova.last]);
}

/** A write that the kernel answers with EFAULT, for this reason of its own. */
async function refused(call: Promise<void>, reason: string): Promise<void> {
  const error = await fails(call, 'EFAULT', 'write');
  assert.ok(isSystemError(error.cause, reason), `${error.cause} is not ${reason}`);
}

const each = (name: string, act: (scene: Scene, parent: ParentKind) => Promise<void>) => {
  for (const parent of PARENTS)
    test(`${parent}: ${name}`, () => playScene((scene) => act(scene, parent), { parent }));
};

each(
  'an update gives the device the file behind the memory',
  async ({ device, driver, responder }, parent) => {
    const iova = 0x7f00_0000_0000n;
    await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova, size: 8192n, uaddr: uaddr + PAGE }));
    assert.equal(updates(responder.requests), [
      parent === 'set_map' ? [0n, LAST_IOVA] : [iova, iova + 8191n],
    ]);
    assert.equal(await region(device), {
      offset: PAGE,
      start: iova,
      last: iova + 8191n,
      perm: 3,
      firstByte: 1,
    });
    await driver.write(
      iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0n, size: PAGE, uaddr, perm: vhost.VHOST_ACCESS_RO }),
    );
    assert.is((await region(device))?.perm, vhost.VHOST_ACCESS_RO);
    assert.is((await region(device, iova, iova))?.start, iova);
    assert.is(await region(device, PAGE, iova - 1n), undefined);
    assert.is(await region(device, 2n, 1n), undefined);
  },
);

each('the new mapping is live when the message arrives', async ({ device, driver, responder }) => {
  const seen: unknown[] = [];
  responder.answer = async ({ type }) => {
    if (type === vduse.VDUSE_UPDATE_IOTLB) seen.push((await region(device))?.start);
    return {};
  };
  await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: PAGE, uaddr }));
  await driver.write(iotlbMessage(VHOST_IOTLB_INVALIDATE, { iova: PAGE, size: PAGE }));
  assert.equal(seen, [PAGE, undefined]);
});

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

each('a range of no bytes is EINVAL, one past 2^64 is refused with EINVAL', async ({ driver }) => {
  await fails(
    driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0n, size: 0n, uaddr })),
    'EINVAL',
    'write',
  );
  await fails(driver.write(iotlbMessage(VHOST_IOTLB_INVALIDATE, { iova: 0n, size: 0n })), 'EINVAL', 'write');
  const iova = LAST_IOVA - PAGE + 1n;
  await refused(driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova, size: PAGE + 1n, uaddr })), 'EINVAL');
  await refused(driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova, size: LAST_IOVA, uaddr })), 'EINVAL');
  await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova, size: PAGE, uaddr }));
});

each('invalidation removes whatever it touches, whole', async ({ device, driver }) => {
  for (const page of [1n, 3n, 5n])
    await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: page * PAGE, size: PAGE, uaddr }));
  await driver.write(iotlbMessage(VHOST_IOTLB_INVALIDATE, { iova: 2n * PAGE - 1n, size: PAGE + 2n }));
  assert.is((await region(device))?.start, 5n * PAGE);
  await driver.write(iotlbMessage(VHOST_IOTLB_INVALIDATE, { iova: 0n, size: LAST_IOVA }));
  assert.is(await region(device), undefined);
});

each('anonymous memory is skipped without a word', async ({ device, driver, responder }) => {
  const aperture = Aperture.create({ bytes: 2 ** 20, privateBytes: 2 ** 16 });
  await driver.write(
    iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0n, size: PAGE, uaddr: aperture.address + 4096n }),
  );
  assert.equal(updates(responder.requests), []);
  assert.is(await region(device), undefined);
  aperture.close();
});

each('a range over two files and a hole becomes two regions', async ({ device, driver }) => {
  const addon = loadAddon();
  const aperture = Aperture.create({ bytes: 2 ** 20, privateBytes: 2 ** 16 });
  const fd = addon.memfd('parts', 3 * 4096, true);
  const { linear } = aperture.reserveWindow(4 * 4096);
  aperture.mapAt(linear, { fd, offset: 8192n }, 4096, 'rw');
  aperture.mapAt(linear + 3 * 4096, { fd, offset: 0n }, 4096, 'rw');
  const address = aperture.address + BigInt(linear);
  await driver.write(
    iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0x10_0000n, size: 4n * PAGE - 8n, uaddr: address + 8n }),
  );
  const [first, second] = [await region(device), await region(device, 0x10_0000n + 2n * PAGE)];
  assert.equal([first?.start, first?.last, first?.offset], [0x10_0000n, 0x10_0000n + PAGE - 9n, 8200n]);
  assert.equal(
    [second?.start, second?.last, second?.offset],
    [0x10_0000n + 3n * PAGE - 8n, 0x10_0000n + 4n * PAGE - 9n, 0n],
  );
  aperture.close();
  closeSync(fd);
});

each('a region outlives the descriptor that it came from', async ({ device, driver }) => {
  const other = new SharedMemory(4096);
  other.bytes[0] = 77;
  await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0n, size: PAGE, uaddr: other.address }));
  closeSync(other.fd);
  assert.is((await region(device))?.firstByte, 77);
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
  'an invalidation that the device refuses looks like success, and has happened',
  async ({ device, driver, responder }) => {
    await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0n, size: PAGE, uaddr }));
    responder.answer = () => ({ result: vduse.VDUSE_REQ_RESULT_FAILED });
    await driver.write(iotlbMessage(VHOST_IOTLB_INVALIDATE, { iova: 0n, size: PAGE }));
    assert.is(await region(device), undefined);
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

each('messages other than those of the protocol are refused', async ({ driver }) => {
  for (const type of [vhost.VHOST_IOTLB_MISS, vhost.VHOST_IOTLB_ACCESS_FAIL, 0, 7]) {
    await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_BEGIN));
    await refused(driver.write(iotlbMessage(type, { size: PAGE })), 'EINVAL');
  }
  await fails(driver.write(new Uint8Array(0)), 'EINVAL', 'write');
  await fails(driver.write(iotlbMessage(VHOST_IOTLB_BATCH_BEGIN).subarray(0, 71)), 'EINVAL', 'write');
  await fails(driver.write(vhost.vhostMsgV2.encode({ type: 3 })), 'EINVAL', 'write');
});

each('a message of version 1 says the same', async ({ device, driver }) => {
  const iotlb = { iova: PAGE, size: PAGE, uaddr, perm: 3, type: VHOST_IOTLB_UPDATE };
  await driver.write(vhost.vhostMsg.encode({ type: vhost.VHOST_IOTLB_MSG, iotlb }));
  assert.is((await region(device))?.start, PAGE);
});

each('without an owner every message is refused with EPERM', async ({ bus, driver }) => {
  await driver.close();
  const fresh = await bus.openVhostVdpa(NAME);
  await refused(fresh.write(iotlbMessage(VHOST_IOTLB_BATCH_BEGIN)), 'EPERM');
});

each('before anything is mapped there is no address space to invalidate', async ({ driver }) => {
  await refused(driver.write(iotlbMessage(VHOST_IOTLB_INVALIDATE, { iova: 0n, size: LAST_IOVA })), 'EINVAL');
  await refused(driver.write(iotlbMessage(VHOST_IOTLB_BATCH_END)), 'EINVAL');
});

each('an update that the device refuses leaves it what it had', async ({ device, driver, responder }) => {
  await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0n, size: PAGE, uaddr }));
  responder.answer = () => {
    responder.answer = () => ({});
    return { result: vduse.VDUSE_REQ_RESULT_FAILED };
  };
  const refusedRange = { iova: 16n * PAGE, size: PAGE, uaddr };
  await refused(driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, refusedRange)), 'EIO');
  assert.is((await region(device))?.last, PAGE - 1n);
  assert.is(await region(device, PAGE), undefined);
});

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

test('set_map: a batch is one message, at its end', () =>
  playScene(async ({ device, driver, responder }) => {
    await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_BEGIN));
    for (const page of [0n, 1n, 2n])
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: page * PAGE, size: PAGE, uaddr }));
    await driver.write(iotlbMessage(VHOST_IOTLB_INVALIDATE, { iova: PAGE, size: PAGE }));
    assert.equal(updates(responder.requests), []);
    assert.is(await region(device), undefined);
    await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_END));
    assert.equal(updates(responder.requests), [[0n, LAST_IOVA]]);
    assert.is((await region(device, PAGE))?.start, 2n * PAGE);
  }));

test('set_map: a batch that fails looks like success, and the device has nothing', () =>
  playScene(async ({ device, driver, responder }) => {
    await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_BEGIN));
    await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0n, size: PAGE, uaddr }));
    responder.answer = () => ({ result: vduse.VDUSE_REQ_RESULT_FAILED });
    await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_END));
    assert.is(await region(device), undefined);
  }));

test('dma_map: a batch changes nothing, every update is a message', () =>
  playScene(
    async ({ driver, responder }) => {
      await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_BEGIN));
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: PAGE, uaddr }));
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 0n, size: PAGE, uaddr }));
      await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_END));
      assert.equal(updates(responder.requests), [
        [PAGE, 2n * PAGE - 1n],
        [0n, PAGE - 1n],
      ]);
    },
    { parent: 'dma_map' },
  ));

test('set_map: a reset leaves the mappings, and so does a driver that closes', () =>
  playScene(async ({ bus, device, driver, responder }) => {
    const update = iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: PAGE, uaddr });
    await driver.write(update);
    await setStatus(driver, 0);
    assert.is((await region(device))?.start, PAGE);
    await refused(driver.write(update), 'EEXIST');
    const before = updates(responder.requests).length;
    await driver.close();
    assert.is((await region(device))?.start, PAGE);
    assert.is(updates(responder.requests).length, before);

    const next = await bus.openVhostVdpa(NAME);
    await next.ioctl(vhost.VHOST_SET_OWNER);
    await next.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: 8n * PAGE, size: PAGE, uaddr }));
    assert.is((await region(device))?.start, 8n * PAGE);
  }));

test('dma_map: a reset drops the device’s mappings and not vhost’s, closing drops both', () =>
  playScene(
    async ({ bus, device, driver, responder }) => {
      const update = iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: PAGE, uaddr });
      await driver.write(update);
      await setStatus(driver, 0);
      assert.is(await region(device), undefined);
      await refused(driver.write(update), 'EEXIST');
      const before = updates(responder.requests).length;
      await driver.close();
      assert.is(updates(responder.requests).length, before + 1);
      assert.equal(updates(responder.requests).at(-1), [PAGE, 2n * PAGE - 1n]);
      const next = await bus.openVhostVdpa(NAME);
      await next.ioctl(vhost.VHOST_SET_OWNER);
      await next.write(update);
    },
    { parent: 'dma_map' },
  ));

for (const parent of PARENTS)
  test(`${parent}: address spaces are apart, and a batch belongs to one`, () =>
    playScene(
      async ({ device, driver, responder }) => {
        const update = (iova: bigint, asid: number) =>
          driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova, size: PAGE, uaddr }, asid));
        // Without the backend feature the field is reserved: everything is address space 0.
        await update(0n, 7);
        assert.is((await region(device, 0n, LAST_IOVA, 0))?.start, 0n);
        const acknowledged = u64.encode(1n << BigInt(vhost.VHOST_BACKEND_F_IOTLB_ASID));
        await driver.ioctl(vhost.VHOST_SET_BACKEND_FEATURES, acknowledged);
        await update(0n, 1);
        await refused(update(PAGE, 2), 'EINVAL');
        await refused(update(0n, 0), 'EEXIST');
        assert.is(responder.of(vduse.VDUSE_UPDATE_IOTLB).at(-1)?.iova_v2.asid, 1);
        assert.is(await region(device, PAGE, LAST_IOVA, 1), undefined);
        assert.is(await region(device, 0n, LAST_IOVA, 2), undefined);
        await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_BEGIN, {}, 1));
        await refused(update(PAGE, 0), 'EINVAL');
        await driver.write(iotlbMessage(VHOST_IOTLB_BATCH_END, {}, 1));
        await update(PAGE, 0);
        assert.is((await region(device, 1n + PAGE - 1n, LAST_IOVA, 0))?.start, PAGE);
        // A message of version 1 has no address space to say.
        const iotlb = { iova: 0n, size: PAGE, uaddr: 0n, perm: 0, type: VHOST_IOTLB_INVALIDATE };
        await driver.write(vhost.vhostMsg.encode({ type: vhost.VHOST_IOTLB_MSG, iotlb }));
        assert.is((await region(device, 0n, LAST_IOVA, 0))?.start, PAGE);
        assert.is((await region(device, 0n, LAST_IOVA, 1))?.start, 0n);
      },
      { parent, apiVersion: 1n, ngroups: 2, nas: 2 },
    ));

test.run();
