import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  BOUNCE_MAP_SIZE,
  DMA_BIDIRECTIONAL,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  DOMAIN_BITMAP,
  DOMAIN_BLOCK_SIZE,
  DOMAIN_BOUNCE,
  DOMAIN_MAPS,
  DOMAIN_PAGES,
  PAGE_SIZE,
} from '../../assembly/layout.js';
import { instantiateEngine } from '../../host/aperture/engine.js';
import { Memory } from '../../host/aperture/web-assembly.js';

const DIRECTIONS = { DMA_TO_DEVICE, DMA_FROM_DEVICE, DMA_BIDIRECTIONAL };
/** Linear addresses. */
const BLOCK = 0x1000;
const BITMAP = BLOCK + DOMAIN_BLOCK_SIZE;
const MAPS = 0x2000;
const OWN = 0x100000;
const BOUNCE = 0x200000;
const OWN_PAGES = 200;

/** A domain of `pages` bounce pages, and the driver's own memory at OWN. */
function domain(pages = 32) {
  const memory = new Memory({ initial: 64, maximum: 64, shared: true });
  const engine = instantiateEngine(memory);
  const u8 = new Uint8Array(memory.buffer);
  const u32 = new Uint32Array(memory.buffer);
  u32[(BLOCK + DOMAIN_BOUNCE) / 4] = BOUNCE;
  u32[(BLOCK + DOMAIN_PAGES) / 4] = pages;
  u32[(BLOCK + DOMAIN_BITMAP) / 4] = BITMAP;
  u32[(BLOCK + DOMAIN_MAPS) / 4] = MAPS;
  assert.ok(MAPS + pages * BOUNCE_MAP_SIZE <= OWN);
  return {
    own: u8.subarray(OWN, OWN + OWN_PAGES * PAGE_SIZE),
    /** What the device sees. */
    device: u8.subarray(BOUNCE, BOUNCE + pages * PAGE_SIZE),
    grow: (to: number) => {
      u32[(BLOCK + DOMAIN_PAGES) / 4] = to;
    },
    map: (offset: number, bytes: number, direction: number) =>
      engine.mapPage(BLOCK, OWN + offset, bytes, direction),
    syncForDevice: (bounce: number, offset: number, bytes: number) =>
      engine.syncSingleForDevice(BLOCK, bounce, offset, bytes),
    syncForCpu: (bounce: number, offset: number, bytes: number) =>
      engine.syncSingleForCpu(BLOCK, bounce, offset, bytes),
    unmap: (bounce: number) => engine.unmapPage(BLOCK, bounce),
  };
}

const page = (bounce: number) => (bounce - BOUNCE) / PAGE_SIZE;
const at = (bounce: number) => bounce - BOUNCE;

for (const [name, direction] of Object.entries(DIRECTIONS)) {
  const toDevice = direction !== DMA_FROM_DEVICE;
  const toCpu = direction !== DMA_TO_DEVICE;

  test(`a mapping gives the device its bytes and none around them: ${name}`, () => {
    const { own, device, map } = domain();
    own.fill(0xee);
    const bounce = map(1001, PAGE_SIZE + 1, direction);
    const given = device.subarray(at(bounce), at(bounce) + PAGE_SIZE + 1);
    assert.ok(given.every((byte) => byte === (toDevice ? 0xee : 0)));
    assert.is(
      device.reduce((sum, byte) => sum + Number(byte === 0xee), 0),
      toDevice ? PAGE_SIZE + 1 : 0,
    );
  });

  test(`parts are synchronised: ${name}`, () => {
    const { own, device, map, syncForDevice, syncForCpu } = domain();
    own.fill(1, 0, 100);
    const bounce = map(0, 100, direction);
    own.fill(2, 0, 100);
    syncForDevice(bounce, 10, 5);
    assert.equal(
      [9, 10, 14, 15].map((offset) => device[at(bounce) + offset]),
      toDevice ? [1, 2, 2, 1] : [0, 0, 0, 0],
    );
    device.fill(3, at(bounce), at(bounce) + 100);
    syncForCpu(bounce, 20, 5);
    assert.equal(
      [19, 20, 24, 25].map((offset) => own[offset]),
      toCpu ? [2, 3, 3, 2] : [2, 2, 2, 2],
    );
  });

  test(`after unmap the device sees nothing of the driver's: ${name}`, () => {
    const { own, device, map, syncForDevice, unmap } = domain();
    own.fill(0xee);
    const bounce = map(5, 3 * PAGE_SIZE - 7, direction);
    syncForDevice(bounce, 0, 3 * PAGE_SIZE - 7);
    unmap(bounce);
    assert.not.ok(device.includes(0xee));
    // What the device does to its pages stays with it: nothing comes back by itself.
    device.fill(9);
    assert.ok(own.every((byte) => byte === 0xee));
  });
}

test('a full domain says so, and has room again after an unmap', () => {
  const { map, unmap } = domain();
  const all = map(0, 32 * PAGE_SIZE, DMA_TO_DEVICE);
  assert.is(all, BOUNCE);
  assert.is(map(0, 1, DMA_TO_DEVICE), 0);
  unmap(all);
  assert.is(map(0, 1, DMA_TO_DEVICE), BOUNCE);
  assert.is(map(0, 32 * PAGE_SIZE, DMA_TO_DEVICE), 0);
  assert.is(page(map(0, 31 * PAGE_SIZE, DMA_TO_DEVICE)), 1);
});

test('the lowest row of free pages that is long enough is taken', () => {
  const { map, unmap } = domain(150);
  const bounces = Array.from({ length: 150 }, () => map(0, PAGE_SIZE, DMA_FROM_DEVICE));
  assert.equal(bounces.map(page), [...bounces.keys()]);
  // Holes of 1, 2 and 70 pages, the last over the words of a bitmap.
  for (const hole of [3, 10, 11, ...Array.from({ length: 70 }, (_, index) => 60 + index)])
    unmap(bounces[hole]!);
  assert.is(page(map(0, 2 * PAGE_SIZE, DMA_FROM_DEVICE)), 10);
  assert.is(map(0, 71 * PAGE_SIZE, DMA_FROM_DEVICE), 0);
  assert.is(page(map(0, 66 * PAGE_SIZE, DMA_FROM_DEVICE)), 60);
  assert.is(page(map(0, 1, DMA_FROM_DEVICE)), 3);
  assert.is(page(map(0, 1, DMA_FROM_DEVICE)), 126);
  assert.is(page(map(0, 3 * PAGE_SIZE, DMA_FROM_DEVICE)), 127);
  assert.is(map(0, 1, DMA_FROM_DEVICE), 0);
});

test('a domain that grows gives its new pages out', () => {
  const { map, grow } = domain(130);
  grow(64);
  assert.is(page(map(0, 60 * PAGE_SIZE, DMA_TO_DEVICE)), 0);
  assert.is(map(0, 5 * PAGE_SIZE, DMA_TO_DEVICE), 0);
  grow(130);
  assert.is(page(map(0, 5 * PAGE_SIZE, DMA_TO_DEVICE)), 60);
  assert.is(page(map(0, 65 * PAGE_SIZE, DMA_TO_DEVICE)), 65);
  assert.is(map(0, 1, DMA_TO_DEVICE), 0);
});

test('random mappings agree with a model, and expose no byte of the driver’s that was not given', () => {
  const { own, device, map, syncForCpu, unmap } = domain(100);
  let seed = 7;
  const random = (limit: number) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * limit);
  };
  // Bytes of the driver's have the top bit, those of the device do not.
  for (let index = 0; index < own.length; index++) own[index] = 0x80 | random(128);
  const ownModel = own.slice();
  const deviceModel = new Uint8Array(device.length);
  const live: { bounce: number; offset: number; bytes: number; direction: number }[] = [];
  const overlaps = (offset: number, bytes: number) =>
    live.some((other) => offset < other.offset + other.bytes && other.offset < offset + bytes);
  let full = 0;
  for (let step = 0; step < 5000; step++) {
    const bytes = 1 + random(random(4) ? 5 * PAGE_SIZE : 70 * PAGE_SIZE);
    const offset = random(own.length - bytes);
    if (random(3) && !overlaps(offset, bytes)) {
      const direction = random(3);
      const bounce = map(offset, bytes, direction);
      if (bounce === 0) {
        full++;
        continue;
      }
      assert.is(at(bounce) % PAGE_SIZE, 0);
      for (const other of live)
        assert.ok(bounce >= other.bounce + other.bytes || other.bounce >= bounce + bytes, 'pages are shared');
      if (direction !== DMA_FROM_DEVICE)
        deviceModel.set(ownModel.subarray(offset, offset + bytes), at(bounce));
      live.push({ bounce, offset, bytes, direction });
    } else if (live.length) {
      const [{ bounce, offset, bytes, direction }] = live.splice(random(live.length), 1) as [
        (typeof live)[0],
      ];
      // The device writes anywhere in its pages, and says how much it has written.
      const place = at(bounce) + random(Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE);
      device[place] = deviceModel[place] = random(128);
      const written = random(bytes + 1);
      syncForCpu(bounce, 0, written);
      unmap(bounce);
      if (direction !== DMA_TO_DEVICE)
        ownModel.set(deviceModel.subarray(at(bounce), at(bounce) + written), offset);
      if (direction !== DMA_FROM_DEVICE) deviceModel.fill(0, at(bounce), at(bounce) + bytes);
    }
    assert.is(Buffer.compare(device, deviceModel), 0, `step ${step}`);
  }
  assert.is(Buffer.compare(own, ownModel), 0);
  assert.ok(full > 10, `${full} were refused`);
});

test.run();
