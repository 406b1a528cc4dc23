import { Bus } from '../../host/bus/index.js';
import { openBlock } from '../../host/drivers/blk.js';
import type { BlockBatch } from '../../host/drivers/block-batch.js';
import type { BlockDisk } from '../../host/drivers/block-disk.js';
import { BlockDevice } from '../../host/models/blk/block-device.js';
import { serve } from '../../host/serve.js';
import type { Case } from '../case.js';
import { compare } from '../compare.js';
import { Disks } from '../round-trip/disks.js';

const BATCH = 32;
/** Bytes of each disk. */
const DISK_BYTES = 2 ** 24;
/** Bytes that a slice moves. */
const SLICE_BYTES = 2 ** 26;
/** Looks at the used ring until a batch counts as lost. */
const SPINS = 2 ** 30;

type Kind = 'read' | 'write';

/** A disk in memory, served by a queue thread, and its driver on this one. */
class Pair {
  readonly #bus: Bus;
  readonly #disk: BlockDisk;
  readonly #batch: BlockBatch;
  readonly #close: () => Promise<void>;
  readonly #linear: number;

  static async open(bounce: boolean): Promise<Pair> {
    const bus = new Bus();
    const device = await serve(new BlockDevice({ memory: DISK_BYTES }), { name: 'disk', bus });
    return new Pair(bus, await openBlock('disk', { bus, bounce }), () => device.close());
  }

  private constructor(bus: Bus, disk: BlockDisk, close: () => Promise<void>) {
    this.#bus = bus;
    this.#disk = disk;
    this.#batch = disk.batch();
    this.#close = close;
    this.#linear = disk.alloc(DISK_BYTES / 2).byteOffset;
  }

  /** Touches all memory, and lets the driver show its device all the bounce buffers that a batch takes. */
  async settle(kind: Kind, bytes: number): Promise<void> {
    const batch = this.#batch;
    for (let wanted = true; wanted; ) {
      this.#stage(kind, bytes);
      wanted = batch.submit() < BATCH;
      for (let left = BATCH; left > 0; ) {
        await batch.wait();
        left -= batch.reap();
        batch.submit();
      }
    }
  }

  /** Moves SLICE_BYTES in batches of requests of `bytes` bytes: MB/s. */
  slice(kind: Kind, bytes: number): number {
    const batch = this.#batch;
    const start = performance.now();
    for (let moved = 0; moved < SLICE_BYTES; moved += BATCH * bytes) {
      this.#stage(kind, bytes);
      if (batch.submit() !== BATCH) throw new Error('a batch did not fit');
      if (batch.reap(BATCH, SPINS) !== BATCH) throw new Error('a batch got lost');
      for (let index = 0; index < BATCH; index++)
        if (batch.status(index) !== 0) throw new Error(`a request ended with status ${batch.status(index)}`);
    }
    return SLICE_BYTES / 1e6 / ((performance.now() - start) / 1000);
  }

  async close(): Promise<void> {
    await this.#disk.close();
    await this.#close();
    await this.#bus.close();
  }

  #stage(kind: Kind, bytes: number): void {
    for (let index = 0; index < BATCH; index++) {
      const offset = index * bytes;
      if (kind === 'read') this.#batch.readLinear(offset, this.#linear + offset, bytes, index);
      else this.#batch.writeLinear(offset, this.#linear + offset, bytes, index);
    }
  }
}

const SIDES = { engine: 'with bounce', rival: 'without bounce', unit: 'MB/s' };

function oneThreadCase(kind: Kind, bytes: number, quick: boolean): Case {
  const name = `bounce buffers: ${kind}s of ${bytes} B, batch ${BATCH}, driver and device on one thread`;
  return {
    name,
    quick,
    async run(effort) {
      const [bounced, direct] = [true, false].map((bounce) => {
        const disks = new Disks({ batch: BATCH, bytes, write: kind === 'write', bounce });
        const loop = disks.engineLoop();
        return () => (disks.measure(loop) * bytes) / 1e6;
      });
      return [await compare({ work: name, ...SIDES }, effort, bounced!, direct!)];
    },
  };
}

function twoThreadsCase(kind: Kind, bytes: number, quick: boolean): Case {
  const name = `bounce buffers: ${kind}s of ${bytes} B, batch ${BATCH}, driver and device on two threads`;
  return {
    name,
    quick,
    async run(effort) {
      const bounced = await Pair.open(true);
      const direct = await Pair.open(false);
      for (const pair of [bounced, direct]) await pair.settle(kind, bytes);
      const result = await compare(
        { work: name, ...SIDES },
        effort,
        () => bounced.slice(kind, bytes),
        () => direct.slice(kind, bytes),
      );
      await bounced.close();
      await direct.close();
      return [result];
    },
  };
}

/** What it costs that a device sees bounce buffers in place of its driver's memory: the same driver and device without them. */
export const bounceCases: Case[] = [
  oneThreadCase('read', 4096, true),
  oneThreadCase('write', 4096, false),
  oneThreadCase('read', 65536, false),
  oneThreadCase('write', 65536, false),
  twoThreadsCase('read', 4096, false),
  twoThreadsCase('write', 4096, false),
  twoThreadsCase('read', 65536, true),
  twoThreadsCase('write', 65536, false),
];
