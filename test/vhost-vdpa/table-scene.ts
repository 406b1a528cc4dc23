/** A device of the bus, a driver that sets its memory tables, and three views of what came of it. */
import { readSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { Aperture } from '../../host/aperture/aperture.js';
import { Bus, type ParentKind } from '../../host/bus/index.js';
import { isSystemError } from '../../host/errors.js';
import { loadAddon } from '../../host/native/addon.js';
import * as vduse from '../../host/uapi/vduse.js';
import { VHOST_ACCESS_RW } from '../../host/uapi/vhost.js';
import type { VduseDeviceLayout, VduseDeviceListener } from '../../host/vduse/device-layout.js';
import { DriverMemory } from '../../host/vduse/driver-memory.js';
import type { VduseFile } from '../../host/vduse/file.js';
import { VhostVdpa } from '../../host/vhost-vdpa/device.js';
import type { MemoryRegion } from '../../host/vhost-vdpa/memory-table.js';
import { openVhostVdpaFile } from '../../host/vhost-vdpa/open.js';
import { createDevice, LAST_IOVA, NAME, Responder, SharedMemory, within } from '../bus/fixture.js';

/** Bytes of a page. */
export const PAGE = 4096;
/** Pages of each of the driver's memories, and IOVAs in pages that a table can have. */
export const PAGES = 1024;
/** IOVA of page 0. */
export const BASE = 2n ** 32n;
/** Milliseconds; a scene that takes longer hangs. */
const SCENE_LIMIT_MS = 150_000;

/** Memories that regions are made of: each page begins with the memory's number and its own. */
const memories = [0, 1].map((number) => {
  const memory = new SharedMemory(PAGES * PAGE);
  const words = new Uint32Array(memory.bytes.buffer, memory.bytes.byteOffset, (PAGES * PAGE) / 4);
  for (let page = 0; page < PAGES; page++) words[(page * PAGE) / 4] = wordOf(number, page);
  return memory;
});

/** First word of a page of a memory. */
function wordOf(memory: number, page: number): number {
  return (memory + 1) * 0x1_0000 + page;
}

/** Pages [page, page + pages) of the IOVA space, which are those of a memory from `from` on. */
export function region(page: number, pages: number, memory = 0, from = page, perm = VHOST_ACCESS_RW) {
  return {
    iova: BASE + BigInt(page * PAGE),
    bytes: BigInt(pages * PAGE),
    address: memories[memory]!.address + BigInt(from * PAGE),
    perm,
  } satisfies MemoryRegion;
}

/** A stretch of IOVAs that goes on in the same memory with the same permission. */
export interface Stretch {
  start: bigint;
  last: bigint;
  /** First word of its first page. */
  word: number;
  perm: number;
}

/** Stretches in ascending order, put together where one goes on in the next. */
function join(stretches: readonly Stretch[]): Stretch[] {
  const joined: Stretch[] = [];
  for (const stretch of stretches) {
    const before = joined.at(-1);
    const goesOn =
      before !== undefined &&
      before.last + 1n === stretch.start &&
      before.perm === stretch.perm &&
      before.word + Number((stretch.start - before.start) / BigInt(PAGE)) === stretch.word;
    if (goesOn) before.last = stretch.last;
    else joined.push({ ...stretch });
  }
  return joined;
}

/** What a device sees of a table, by what the table says. */
export function stretchesOf(regions: readonly MemoryRegion[]): Stretch[] {
  const sorted = regions.toSorted((a, b) => (a.iova < b.iova ? -1 : 1));
  return join(
    sorted.map(({ iova, bytes, address, perm = VHOST_ACCESS_RW }) => {
      const number = memories.findIndex(
        (memory) => address >= memory.address && address < memory.address + BigInt(PAGES * PAGE),
      );
      const page = Number((address - memories[number]!.address) / BigInt(PAGE));
      return { start: iova, last: iova + bytes - 1n, word: wordOf(number, page), perm };
    }),
  );
}

/** The device's side: answers messages, and has what it sees in an aperture of its own. */
export class DeviceSide {
  readonly responder: Responder;
  /** Times that its IOTLB was programmed. */
  programmings = 0;
  readonly #file: VduseFile;
  readonly #aperture = Aperture.create({ bytes: 2 ** 26, privateBytes: 2 ** 20 });
  readonly #memory: DriverMemory;

  constructor(file: VduseFile) {
    this.#file = file;
    const iotlbs = [DriverMemory.allocateIotlb(this.#aperture)];
    const layout = { iotlbs, umem: false, protocol: { apiVersion: 0n } } as unknown as VduseDeviceLayout;
    const listener = {} as VduseDeviceListener;
    this.#memory = new DriverMemory(file, this.#aperture, 0, layout, listener);
    this.responder = new Responder(file);
    this.responder.answer = async ({ type, iova }) => {
      if (type === vduse.VDUSE_UPDATE_IOTLB) {
        this.programmings++;
        await this.#memory.drop(iova.start, iova.last);
      }
      return {};
    };
  }

  /** All that the bus has for it. */
  async stretches(): Promise<Stretch[]> {
    const found: Stretch[] = [];
    const word = new Uint32Array(1);
    for (let start = 0n; start <= LAST_IOVA; start = found.at(-1)!.last + 1n) {
      const argument = vduse.vduseIotlbEntry.encode({ start, last: LAST_IOVA });
      let fd: number;
      try {
        fd = await this.#file.ioctl(vduse.VDUSE_IOTLB_GET_FD, argument);
      } catch (error) {
        if (isSystemError(error, 'EINVAL')) break;
        throw error;
      }
      const entry = vduse.vduseIotlbEntry.decode(argument);
      try {
        assert.is(readSync(fd, word, 0, 4, Number(entry.offset)), 4);
      } finally {
        loadAddon().close(fd);
      }
      found.push({ start: entry.start, last: entry.last, word: word[0]!, perm: entry.perm });
    }
    return join(found);
  }

  /** First word of the page at an IOVA, read through the aperture; undefined where nothing is mapped with that access. */
  async read(iova: bigint, access: number): Promise<number | undefined> {
    if (!this.#memory.covers(iova)) {
      const fetched = await this.#memory.fetch(iova);
      if (!fetched) return undefined;
      assert.ok(await this.#memory.add(fetched));
    }
    const linear = this.#memory.translate(iova, 4, access);
    // The driver's memory is this process's own, and only `drop` unmaps it here.
    return linear ? new Uint32Array(this.#aperture.memory.buffer, linear, 1)[0] : undefined;
  }

  close(): void {
    this.#aperture.close();
  }
}

/** A scene with a device and its driver, which has not started it. */
export interface TableScene {
  bus: Bus;
  side: DeviceSide;
  device: VhostVdpa;
}

/**
 * Where mappings go: to a parent that takes whole tables, or one mapping at a time, or to the platform's IOMMU, whose
 * container a vhost-mdev device is in.
 */
export type Way = ParentKind | 'vhost_mdev';

/** Plays `act` on a bus of its own. */
export async function tableScene(
  way: Way,
  act: (scene: TableScene) => Promise<void>,
  backendFeatures?: bigint,
): Promise<void> {
  const bus = new Bus();
  try {
    const { file } = await createDevice(bus);
    const side = new DeviceSide(file);
    await bus.attach(NAME, {
      ...(way === 'vhost_mdev' ? { driver: way } : { parent: way }),
      ...(backendFeatures === undefined ? {} : { backendFeatures }),
    });
    const device = await within(VhostVdpa.open(await openVhostVdpaFile(NAME, bus)), 'opening');
    await within(act({ bus, side, device }), 'the scene', SCENE_LIMIT_MS);
    await within(device.close(), 'closing');
    side.close();
  } finally {
    await within(bus.close(), 'closing the bus');
  }
}

/** Numbers from 0 to below a limit that look random, and are the same each time. */
export function randomNumbers(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}
