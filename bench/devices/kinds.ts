import { setTimeout as sleep } from 'node:timers/promises';
import {
  BlockDevice,
  BlockModel,
  type Bus,
  EntropyDevice,
  type Model,
  openBlock,
  openEntropy,
  type ServeOptions,
  serve,
} from '../../host/index.js';

/** Something that is there until it is closed. */
interface Closable {
  close(): Promise<void>;
}

/** A kind of device: how one is made, and whether it is driven, too. */
export interface Kind {
  readonly name: string;
  readonly model: () => Model;
  readonly options: Partial<ServeOptions>;
  /** Opens it, and has it answer one request; undefined where nobody drives it. */
  readonly drive: ((name: string, bus: Bus) => Promise<Closable>) | undefined;
}

/** Bytes. */
const DISK_BYTES = 2 ** 20;

class Zeroes extends BlockModel {
  capacity = DISK_BYTES;
  read() {}
}

const disk = () => new BlockDevice({ memory: DISK_BYTES });

async function readDisk(name: string, bus: Bus): Promise<Closable> {
  const opened = await openBlock(name, { bus, flightRecorder: true });
  await opened.read(0, 512);
  return opened;
}

async function readEntropy(name: string, bus: Bus): Promise<Closable> {
  const opened = await openEntropy(name, { bus });
  await opened.read(16);
  return opened;
}

/** The kinds that are made and closed. */
export const kinds: readonly Kind[] = [
  { name: 'a disk on the event loop', model: disk, options: { threads: 0 }, drive: undefined },
  { name: 'a disk on a queue thread', model: disk, options: { threads: 1 }, drive: undefined },
  { name: 'a disk on the event loop, driven', model: disk, options: { threads: 0 }, drive: readDisk },
  { name: 'a disk on a queue thread, driven', model: disk, options: { threads: 1 }, drive: readDisk },
  { name: 'a disk in TypeScript, driven', model: () => new Zeroes(), options: {}, drive: readDisk },
  {
    name: 'entropy, driven',
    model: () => new EntropyDevice(),
    options: { flightRecorder: true },
    drive: readEntropy,
  },
];

/** Makes a device of a kind, which has answered a request if it is driven. */
export async function make({ model, options, drive }: Kind, name: string, bus: Bus): Promise<Closable> {
  const served = await serve(model(), { name, bus, ...options });
  const driven = await drive?.(name, bus);
  return {
    close: async () => {
      await driven?.close();
      await served.close();
    },
  };
}

/** Milliseconds between looks, and until what a thread leaves behind when it ends has gone. */
const SETTLE_INTERVAL_MS = 20;

/** Calls `look` until what it gives satisfies `settled`, for a while: what it gave last. */
export async function settle<T>(
  look: () => Promise<T>,
  settled: (state: T) => boolean,
  looks: number,
): Promise<T> {
  let state = await look();
  for (let left = looks; left > 0 && !settled(state); left--) {
    await sleep(SETTLE_INTERVAL_MS);
    state = await look();
  }
  return state;
}
