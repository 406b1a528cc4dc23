import { closeSync, readSync, writeSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Aperture } from '../../host/aperture/aperture.js';
import { type DmaDirection, IovaDomain } from '../../host/bus/iova-domain.js';
import { isSystemError, RingbellError } from '../../host/errors.js';
import { loadAddon } from '../../host/native/addon.js';
import { VDUSE_IOTLB_GET_FD, vduseIotlbEntry } from '../../host/uapi/vduse.js';
import { VHOST_IOTLB_UPDATE } from '../../host/uapi/vhost.js';
import { iotlbMessage, scene } from './fixture.js';

const PAGE = 4096;
const BASE = 0x1000_0000_0000n;
const DIRECTIONS: DmaDirection[] = ['DMA_TO_DEVICE', 'DMA_FROM_DEVICE', 'DMA_BIDIRECTIONAL'];

/** A domain of 32 bounce pages, the driver's own memory, and what the device sees of it all. */
function domain() {
  const aperture = Aperture.create({ bytes: 2 ** 22, privateBytes: 2 ** 20 });
  const iovaDomain = new IovaDomain(aperture, {
    iova: BASE,
    bounceBytes: 32 * PAGE,
    coherentBytes: 8 * PAGE,
  });
  const own = aperture.allocate(64 * PAGE);
  const device = aperture.viewOwn(iovaDomain.window);
  const at = (iova: bigint) => Number(iova - BASE);
  return { aperture, iovaDomain, own, memory: aperture.u8, device, at };
}

const isArgument = (error: unknown) => error instanceof RingbellError && error.code === 'ERR_ARGUMENT';

test('bytes go to the device at map, by direction', () => {
  const { iovaDomain, own, memory, device, at } = domain();
  for (const direction of DIRECTIONS) {
    memory.fill(7, own, own + 100);
    const iova = iovaDomain.mapPage(own, 100, direction);
    assert.is(device[at(iova)], direction === 'DMA_FROM_DEVICE' ? 0 : 7, direction);
    assert.is(device[at(iova) + 99], direction === 'DMA_FROM_DEVICE' ? 0 : 7);
    iovaDomain.unmapPage(iova);
  }
});

test('bytes come back at unmap, by direction', () => {
  for (const direction of DIRECTIONS) {
    const { iovaDomain, own, memory, device, at } = domain();
    memory.fill(7, own, own + 101);
    const iova = iovaDomain.mapPage(own, 100, direction);
    device.fill(9, at(iova), at(iova) + PAGE);
    iovaDomain.unmapPage(iova);
    const back = direction === 'DMA_TO_DEVICE' ? 7 : 9;
    assert.equal([memory[own], memory[own + 99], memory[own + 100]], [back, back, 7], direction);
  }
});

test('the device sees nothing around the bytes that it was given', () => {
  const { iovaDomain, own, memory, device, at } = domain();
  memory.fill(0xee, own, own + 4 * PAGE);
  const iova = iovaDomain.mapPage(own + 1000, PAGE + 1, 'DMA_TO_DEVICE');
  const seen = device.subarray(at(iova), at(iova) + 2 * PAGE);
  assert.is(seen.lastIndexOf(0xee), PAGE);
  assert.ok(seen.subarray(PAGE + 1).every((byte) => byte === 0));
  assert.is(
    device.reduce((sum, byte) => sum + Number(byte === 0xee), 0),
    PAGE + 1,
  );
});

test('a page is clean before it serves another request', () => {
  const { iovaDomain, own, memory, device, at } = domain();
  memory.fill(0xee, own, own + PAGE);
  const first = iovaDomain.mapPage(own, PAGE, 'DMA_TO_DEVICE');
  iovaDomain.unmapPage(first);
  memory.fill(0, own, own + PAGE);
  for (const direction of DIRECTIONS) {
    const iova = iovaDomain.mapPage(own, 1, direction);
    assert.is(iova, first);
    assert.ok(device.subarray(at(iova), at(iova) + PAGE).every((byte) => byte === 0));
    iovaDomain.unmapPage(iova);
  }
});

test('a part of a mapping is synchronised, by direction', () => {
  for (const direction of DIRECTIONS) {
    const { iovaDomain, own, memory, device, at } = domain();
    memory.fill(1, own, own + 100);
    const iova = iovaDomain.mapPage(own, 100, direction);
    memory.fill(2, own, own + 100);
    iovaDomain.syncSingleForDevice(iova, 10, 5);
    const given = direction === 'DMA_FROM_DEVICE' ? [0, 0, 0] : [1, 2, 1];
    assert.equal(
      [9, 10, 15].map((offset) => device[at(iova) + offset]),
      given,
      direction,
    );
    device.fill(3, at(iova), at(iova) + 100);
    iovaDomain.syncSingleForCpu(iova, 20, 5);
    const back = direction === 'DMA_TO_DEVICE' ? [2, 2, 2] : [2, 3, 2];
    assert.equal(
      [19, 20, 25].map((offset) => memory[own + offset]),
      back,
      direction,
    );
    assert.throws(() => iovaDomain.syncSingleForDevice(iova, 99, 2), isArgument);
    assert.throws(() => iovaDomain.syncSingleForCpu(iova, -1, 2), isArgument);
  }
});

test('a full domain is ENOMEM, and has room again after an unmap', () => {
  const { iovaDomain, own } = domain();
  const iova = iovaDomain.mapPage(own, 31 * PAGE, 'DMA_TO_DEVICE');
  assert.throws(
    () => iovaDomain.mapPage(own, 1, 'DMA_TO_DEVICE'),
    (error: unknown) => isSystemError(error, 'ENOMEM'),
  );
  iovaDomain.unmapPage(iova);
  iovaDomain.mapPage(own, 1, 'DMA_TO_DEVICE');
  assert.throws(
    () => iovaDomain.allocCoherent(9 * PAGE),
    (error: unknown) => isSystemError(error, 'ENOMEM'),
  );
});

test('the first page of the domain is never handed out', () => {
  const { iovaDomain, own } = domain();
  assert.is(iovaDomain.mapPage(own, 1, 'DMA_TO_DEVICE'), BASE + BigInt(PAGE));
});

test('coherent memory is one memory for both sides, and clean whenever it is allocated', () => {
  const { aperture, iovaDomain, device, at } = domain();
  const rings = iovaDomain.allocCoherent(PAGE + 16);
  assert.ok(at(rings.iova) >= 32 * PAGE);
  const source = aperture.allocate(8);
  aperture.u8[source] = 5;
  aperture.engine.copy(rings.linear, source, 1);
  assert.is(device[at(rings.iova)], 5);
  const other = iovaDomain.allocCoherent(1);
  assert.is(other.iova, rings.iova + BigInt(2 * PAGE));
  iovaDomain.freeCoherent(rings);
  const again = iovaDomain.allocCoherent(16);
  assert.is(again.iova, rings.iova);
  assert.is(device[at(again.iova)], 0);
  iovaDomain.freeCoherent(again);
  assert.throws(() => iovaDomain.freeCoherent(again), isArgument);
});

test('what is not mapped cannot be unmapped, and nothing outside the aperture mapped', () => {
  const { aperture, iovaDomain, own } = domain();
  const iova = iovaDomain.mapPage(own, 1, 'DMA_TO_DEVICE');
  assert.throws(() => iovaDomain.unmapPage(iova + 1n), isArgument);
  iovaDomain.unmapPage(iova);
  assert.throws(() => iovaDomain.unmapPage(iova), isArgument);
  for (const [linear, bytes] of [
    [0, 16],
    [own, 0],
    [own, -1],
    [own, 1.5],
    [aperture.bytes - 1, 2],
  ] as const)
    assert.throws(() => iovaDomain.mapPage(linear, bytes, 'DMA_TO_DEVICE'), isArgument);
  for (const options of [
    { iova: 1n },
    { iova: 2n ** 64n - 4096n },
    { bounceBytes: 100 },
    { coherentBytes: PAGE },
  ])
    assert.throws(() => new IovaDomain(aperture, options), isArgument);
});

test('a device that is given the domain can reach bounce buffers and nothing else of the driver’s', async () => {
  const { aperture, iovaDomain, own, memory } = domain();
  memory.fill(0xee, own, own + 2 * PAGE);
  await scene(async ({ device, driver }) => {
    const size = BigInt(iovaDomain.window.bytes);
    const uaddr = aperture.address + BigInt(iovaDomain.window.linear);
    await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: BASE, size, uaddr }));
    const iova = iovaDomain.mapPage(own + 100, 100, 'DMA_TO_DEVICE');
    const entry = vduseIotlbEntry.encode({ start: iova, last: iova });
    const fd = await device.ioctl(VDUSE_IOTLB_GET_FD, entry);
    const { start, last, offset } = vduseIotlbEntry.decode(entry);
    assert.equal([start, last], [BASE, BASE + size - 1n]);
    const seen = new Uint8Array(Number(size));
    assert.is(readSync(fd, seen, 0, seen.length, Number(offset)), seen.length);
    assert.is(seen.indexOf(0xee), Number(iova - BASE));
    assert.is(
      seen.reduce((sum, byte) => sum + Number(byte === 0xee), 0),
      100,
    );
    // The device answers in the file; the driver gets it at unmap, where it may.
    const answer = iovaDomain.mapPage(own, 4, 'DMA_FROM_DEVICE');
    writeSync(fd, Uint8Array.of(1, 2, 3, 4), 0, 4, Number(answer - BASE));
    iovaDomain.unmapPage(answer);
    assert.equal([...memory.subarray(own, own + 5)], [1, 2, 3, 4, 0xee]);
    closeSync(fd);
    iovaDomain.close();
  });
});

test('random mappings agree with a model, and expose no byte of the driver’s that was not given', () => {
  const { iovaDomain, own, memory, device, at } = domain();
  let seed = 7;
  const random = (limit: number) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * limit);
  };
  // Every byte of the driver's is 0x80 or above, so a byte that the device should not see is recognised.
  const range = 64 * PAGE;
  for (let index = 0; index < range; index++) memory[own + index] = 0x80 | random(128);
  /** What the driver's memory should be. */
  const expected = memory.slice(own, own + range);
  interface Live {
    iova: bigint;
    offset: number;
    bytes: number;
    direction: DmaDirection;
    /** What the device should see. */
    view: Uint8Array;
  }
  const live: Live[] = [];
  const overlaps = (offset: number, bytes: number) =>
    live.some((other) => offset < other.offset + other.bytes && other.offset < offset + bytes);
  for (let step = 0; step < 2000; step++) {
    const bytes = 1 + random(3 * PAGE);
    const offset = random(range - bytes);
    if (random(2) && !overlaps(offset, bytes)) {
      const direction = DIRECTIONS[random(3)]!;
      let iova: bigint;
      try {
        iova = iovaDomain.mapPage(own + offset, bytes, direction);
      } catch (error) {
        assert.ok(isSystemError(error, 'ENOMEM'));
        continue;
      }
      const view = new Uint8Array(Math.ceil(bytes / PAGE) * PAGE);
      if (direction !== 'DMA_FROM_DEVICE') view.set(expected.subarray(offset, offset + bytes));
      live.push({ iova, offset, bytes, direction, view });
    } else if (live.length) {
      const [gone] = live.splice(random(live.length), 1);
      const { iova, direction, view } = gone!;
      // The device writes low bytes anywhere in its pages.
      const written = random(view.length);
      device[at(iova) + written] = view[written] = random(128);
      iovaDomain.unmapPage(iova);
      if (direction !== 'DMA_TO_DEVICE') expected.set(view.subarray(0, gone!.bytes), gone!.offset);
    }
    for (const { iova, view } of live)
      assert.is(Buffer.compare(device.subarray(at(iova), at(iova) + view.length), view), 0, `step ${step}`);
  }
  assert.is(Buffer.compare(memory.subarray(own, own + range), expected), 0);
});

test('closing a domain twice closes no descriptor of somebody else', () => {
  const { aperture, iovaDomain } = domain();
  iovaDomain.close();
  const next = loadAddon().eventfd();
  iovaDomain.close();
  closeSync(next);
  aperture.close();
});

test.run();
