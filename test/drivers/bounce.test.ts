import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VIRTIO_NET_HDR_SIZE } from '../../assembly/virtio.js';
import type { BlockDisk } from '../../host/drivers/block-disk.js';
import type { DriverMemory } from '../../host/drivers/driver-memory.js';
import type { DriverQueue } from '../../host/drivers/driver-queue.js';
import type { NetInterface } from '../../host/drivers/net-interface.js';
import { CAPACITY, diskScene } from './block-fixture.js';
import { netScene } from './net-fixture.js';

/** Set in every byte of the driver's memory, and in none that the device writes. */
const DRIVERS = 0x80;
/** The same for four bytes at once. */
const DRIVERS_WORD = 0x80808080 | 0;
const PAGE = 4096;
const SECTOR = 512;

/** What a driver keeps to itself: its own memory, beside that of its IOVA domain. */
function memoryOf(driven: BlockDisk | NetInterface): DriverMemory {
  return (driven as unknown as { driver: { memory: DriverMemory } }).driver.memory;
}

function queuesOf(driven: NetInterface): readonly DriverQueue[] {
  return (driven as unknown as { driver: { queues: readonly DriverQueue[] } }).driver.queues;
}

/** A generator of the same numbers in each run, below `limit`. */
function generator(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

/** How many bytes are marked as the driver's. */
function driversBytes(bytes: Uint8Array): number {
  let count = 0;
  for (let index = 0; index < bytes.length; index++) count += bytes[index]! >> 7;
  return count;
}

/** What the device can see, divided as the driver has divided it. */
class Visible {
  readonly #coherent: Int32Array;
  readonly #bounce: Uint8Array;
  readonly #words: Int32Array;

  /** `window`: what the device has mapped; `memory`: the driver's. */
  constructor(window: Uint8Array, memory: DriverMemory) {
    const { domain } = memory;
    assert.ok(domain);
    const { aperture } = memory;
    // Where the buffers start, as the engine has it.
    const bounce = (aperture.u32[domain.block / 4] as number) - domain.window.linear;
    assert.is(window.byteLength, domain.visibleBytes);
    this.#coherent = new Int32Array(window.buffer, window.byteOffset, bounce / 4);
    this.#bounce = window.subarray(bounce);
    this.#words = new Int32Array(window.buffer, window.byteOffset + bounce, this.#bounce.length / 4);
  }

  /** Asserts that bytes of the driver's memory are `given`, each in whole pages of its own, and no others. */
  holds(given: readonly Uint8Array[], what: string): void {
    let left = 0;
    const words = this.#words;
    for (let index = 0; index < words.length; index++) {
      let bits = words[index]! & DRIVERS_WORD;
      for (; bits; bits &= bits - 1) left++;
    }
    const expected = given.reduce((sum, bytes) => sum + driversBytes(bytes), 0);
    assert.is(left, expected, `${what}: the device sees ${left} bytes of the driver's, and not ${expected}`);
    for (const bytes of given) assert.ok(this.#isThere(bytes), `${what}: bytes that are not those given`);
    // Rings have high bytes of their own, in counters and addresses, but never four in a row.
    const leak = this.#coherent.findIndex((word) => (word & DRIVERS_WORD) === DRIVERS_WORD);
    assert.is(leak, -1, `${what}: bytes of the driver's among the rings`);
  }

  #isThere(bytes: Uint8Array): boolean {
    const bounce = this.#bounce;
    for (let page = 0; page < bounce.length; page += PAGE)
      if (
        bounce[page] === bytes[0] &&
        Buffer.compare(bounce.subarray(page, page + bytes.length), bytes) === 0
      )
        return true;
    return false;
  }
}

/** One request: what the device is given, and the promise of its end. */
interface Request {
  given: readonly Uint8Array[];
  done: Promise<unknown>;
  /** Makes the memory that it was about the driver's again. */
  restore(): void;
}

test('the device sees no byte that no descriptor named, during and after each of 10,000 bursts of requests', () =>
  diskScene(
    async ({ device, disk }) => {
      const random = generator(3);
      const memory = memoryOf(disk);
      const { domain } = memory;
      assert.ok(domain);
      const arena = disk.alloc(2 ** 20);
      // All of the driver's own memory: buffers of requests, then what the application has.
      const start = domain.window.linear + domain.window.bytes;
      const own = new Uint8Array(arena.buffer, start, arena.byteOffset + arena.length - start);
      for (let index = 0; index < own.length; index++) own[index] = DRIVERS | random(128);
      const noise = own.slice(0, 2 ** 17);
      // Reads are of the first half of the disk, which nothing writes to.
      for (let index = 0; index < CAPACITY; index++) device.bytes[index] = random(128);
      /** Starts a random request on memory in a quarter of the arena. */
      const request = (quarter: number): Request => {
        const sectors = 1 + random(random(8) ? 16 : 127);
        const bytes = sectors * SECTOR;
        const half = CAPACITY / 2;
        const offset = random((half - bytes) / SECTOR) * SECTOR;
        const at = quarter * 2 ** 18 + random(2 ** 18 - bytes);
        // At any address, and in memory that the driver does not know.
        const buffer = random(2) ? arena.subarray(at, at + bytes) : noise.slice(0, bytes);
        const restore = () => {
          for (let index = 0; index < bytes; index++) buffer[index] = DRIVERS | (index & 127);
        };
        const nothing = (done: Promise<unknown>): Request => ({ given: [], done, restore: () => {} });
        switch (random(8)) {
          case 0:
            return nothing(disk.flush());
          case 1:
            return nothing(disk.discard(half + offset, bytes));
          case 2:
            return nothing(disk.writeZeroes(half + offset, bytes));
          case 3:
            return nothing(disk.getId());
          case 4:
          case 5:
            return {
              given: [],
              done: disk.read(offset, buffer).then(() => {
                assert.is(Buffer.compare(buffer, device.bytes.subarray(offset, offset + bytes)), 0);
              }),
              restore,
            };
          default:
            for (let index = 0; index < bytes; index++) buffer[index] = DRIVERS | random(128);
            return { given: [buffer], done: disk.write(half + offset, buffer), restore: () => {} };
        }
      };
      const visible = new Visible(device.regions[0] as Uint8Array, memory);
      for (let burst = 1; burst <= 10_000; burst++) {
        device.held = true;
        const batch = Array.from({ length: 1 + random(4) }, (_, quarter) => request(quarter));
        await new Promise(setImmediate);
        assert.is(disk.stats().queues[0]!.inFlight, batch.length);
        visible.holds(
          batch.flatMap(({ given }) => given),
          `during burst ${burst}`,
        );
        device.release();
        await Promise.all(batch.map(({ done }) => done));
        visible.holds([], `after burst ${burst}`);
        for (const { restore } of batch) restore();
      }
      assert.is(device.regions.length, 1);
    },
    { hold: true, queueSize: 32, patience: 120_000 },
    { bounce: true, bounceBytes: 2 ** 20, allocBytes: 2 ** 20 },
  ));

test('what the device writes beside the bytes of a request, or into those of a write, never reaches the driver', () =>
  diskScene(
    async ({ device, disk }) => {
      const memory = memoryOf(disk);
      const { domain } = memory;
      assert.ok(domain);
      const random = generator(9);
      const arena = disk.alloc(2 ** 16);
      const start = domain.window.linear + domain.window.bytes;
      const own = new Uint8Array(arena.buffer, start, arena.byteOffset + arena.length - start);
      own.fill(DRIVERS);
      const coherentBytes = domain.visibleBytes - 2 ** 20;
      for (let round = 0; round < 100; round++) {
        device.held = true;
        const bytes = (1 + random(20)) * SECTOR;
        const at = random(arena.length - bytes);
        const target = arena.subarray(at, at + bytes);
        const offset = random(64) * SECTOR;
        const writes = random(2) === 1;
        const done = writes ? disk.write(offset, target) : disk.read(offset, target);
        await new Promise(setImmediate);
        // All of its bounce pages, those in use included.
        device.regions[0]!.fill(1 + random(127), coherentBytes);
        device.release();
        await done;
        if (!writes) {
          assert.is(Buffer.compare(target, device.bytes.subarray(offset, offset + bytes)), 0);
          target.fill(DRIVERS);
        }
        assert.ok(
          own.every((byte) => byte === DRIVERS),
          `round ${round}`,
        );
      }
    },
    { hold: true, queueSize: 32 },
    { bounce: true, bounceBytes: 2 ** 20, allocBytes: 2 ** 16, slotBytes: 4096 },
  ));

test('the device sees no byte but the frames on their way, during and after each of 2,000', () =>
  netScene(
    async ({ device, net }) => {
      const random = generator(5);
      const memory = memoryOf(net);
      const { domain } = memory;
      assert.ok(domain);
      const start = domain.window.linear + domain.window.bytes;
      const { slotMemory, slotBytes, slots } = queuesOf(net)[1] as DriverQueue;
      const bytes = slotMemory + slots * slotBytes - start;
      const own = new Uint8Array(memory.aperture.memory.buffer, start, bytes);
      for (let index = 0; index < own.length; index++) own[index] = DRIVERS | random(128);
      const visible = new Visible(device.visible, memory);
      for (let sent = 0; sent < 2000; ) {
        const frames = Array.from({ length: 1 + random(4) }, () =>
          Uint8Array.from({ length: 14 + random(1505) }, () => DRIVERS | random(128)),
        );
        sent += frames.length;
        const done = net.send(frames);
        await new Promise(setImmediate);
        assert.is(device.transmit.pending, frames.length);
        const header = new Uint8Array(VIRTIO_NET_HDR_SIZE);
        visible.holds(
          frames.map((frame) => Buffer.concat([header, frame])),
          `during frame ${sent}`,
        );
        const answers = frames.map(({ length }) => Uint8Array.from({ length }, () => random(128)));
        frames.forEach((_, index) => {
          device.transmit.give(device.transmit.take().head, 0);
          device.deliver(Buffer.concat([header, answers[index]!]));
        });
        device.transmit.interrupt();
        await done;
        const received: Uint8Array[] = [];
        while (received.length < answers.length) received.push(...(await net.receive()));
        assert.equal(received.map(Buffer.from), answers.map(Buffer.from));
        visible.holds([], `after frame ${sent}`);
      }
    },
    { hold: true, queueSize: 32, patience: 120_000 },
    { bounce: true },
  ));

test.run();
