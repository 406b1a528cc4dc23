import { closeSync } from 'node:fs';
import * as assert from 'uvu/assert';
import {
  CHAIN_SIZE,
  COUNT_MASK,
  DISK_BLOCK_SIZE,
  DISK_CAPACITY,
  DISK_F_DISCARD,
  DISK_F_FLUSH,
  DISK_F_RO,
  DISK_F_WRITE_ZEROES,
  DISK_FLAGS,
  DISK_ID,
  DISK_LINEAR,
  DISK_MAX_RANGE_SECTORS,
  IOTLB_ACCESS_READ,
  IOTLB_ACCESS_WRITE,
  IOTLB_ENTRIES,
  IOTLB_ENTRY_SIZE,
  NOTIFY_DUE,
  PAGE_SIZE,
  SEGMENT_SIZE,
  SEGMENTS_SLACK,
  VQ_BLOCK_SIZE,
  VQ_BURST,
  VQ_CHAINS,
  VQ_DESC,
  VQ_DEVICE,
  VQ_DRIVER,
  VQ_F_EVENT_IDX,
  VQ_F_INDIRECT_DESC,
  VQ_FLAGS,
  VQ_HEADS,
  VQ_IOTLB,
  VQ_SEGMENTS,
  VQ_SEGMENTS_CAPACITY,
  VQ_SIZE,
  VQ_SNAPSHOT,
  VQ_VERDICT,
} from '../../assembly/layout.js';
import {
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_VERSION_1,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
  VIRTQ_DESC_SIZE,
} from '../../assembly/virtio.js';
import { Aperture, type Window } from '../../host/aperture/aperture.js';
import { type AttachOptions, Bus, type BusOptions } from '../../host/bus/index.js';
import { type OpenBlockOptions, openBlock } from '../../host/drivers/blk.js';
import type { BlockDisk } from '../../host/drivers/block-disk.js';
import type { RingbellError } from '../../host/errors.js';
import { loadAddon, type Watcher } from '../../host/native/addon.js';
import { u64 } from '../../host/uapi/codec.js';
import type { Decoded } from '../../host/uapi/struct.js';
import * as vduse from '../../host/uapi/vduse.js';
import { virtioBlkConfig } from '../../host/uapi/virtio.js';
import type { VduseFile } from '../../host/vduse/file.js';
import { createDevice, Responder, within } from '../bus/fixture.js';

const BURST = 64;
const SEGMENTS = 1024;
/** The 32 bits that a doorbell page starts with until it is rung: a store of 16 leaves the rest zero. */
const UNRUNG = 0xffff;
const LAST = 2n ** 64n - 1n;
/** Bytes of a test disk. */
export const CAPACITY = 4 * 2 ** 20;

/** What a test disk is like. */
export interface TestDiskOptions extends AttachOptions, BusOptions {
  readOnly?: boolean;
  queues?: number;
  queueSize?: number;
  id?: string;
  /** Feature bits to add, and to leave out. */
  add?: number[];
  without?: number[];
  config?: Partial<Decoded<typeof virtioBlkConfig>>;
  /** Completions are held back until `release`. */
  hold?: boolean;
  /** Milliseconds that the scene may take. */
  patience?: number;
}

interface ServedQueue {
  vq: number;
  kickFd: number;
  callFd: number;
  watcher: Watcher;
  rings: { desc: number; driver: number; device: number; size: number };
}

/** A memory disk served on this event loop straight from the engine: as little device as a driver needs. */
export class TestDisk {
  readonly aperture = Aperture.create({ bytes: 2 ** 28, privateBytes: 2 ** 23 });
  readonly queues: ServedQueue[] = [];
  /** Linear address of the disk's first byte. */
  readonly memory: Window;
  held: boolean;
  readonly #file: VduseFile;
  readonly #responder: Responder;
  readonly #options: TestDiskOptions;
  readonly #disk: number;
  readonly #iotlb: number;
  readonly #regions = new Map<bigint, Window>();
  #timer: NodeJS.Timeout | undefined;

  constructor(file: VduseFile, options: TestDiskOptions) {
    const { aperture } = this;
    this.#file = file;
    this.#options = options;
    this.held = options.hold ?? false;
    const fd = loadAddon().memfd('disk', CAPACITY, true);
    this.memory = aperture.map({ fd, offset: 0n }, CAPACITY, 'rw');
    closeSync(fd);
    this.#disk = aperture.allocate(DISK_BLOCK_SIZE);
    aperture.u64[(this.#disk + DISK_CAPACITY) / 8] = BigInt(CAPACITY / VIRTIO_BLK_SECTOR_SIZE);
    const word = (offset: number, value: number) => {
      aperture.u32[(this.#disk + offset) / 4] = value;
    };
    word(DISK_LINEAR, this.memory.linear);
    word(
      DISK_FLAGS,
      DISK_F_FLUSH | DISK_F_DISCARD | DISK_F_WRITE_ZEROES | (options.readOnly ? DISK_F_RO : 0),
    );
    word(DISK_MAX_RANGE_SECTORS, 0xffff_ffff);
    aperture.u8.set(new TextEncoder().encode(options.id ?? 'test'), this.#disk + DISK_ID);
    this.#iotlb = aperture.allocate(IOTLB_ENTRIES + 16 * IOTLB_ENTRY_SIZE);
    this.#responder = new Responder(file);
    this.#responder.answer = async (request) => {
      if (request.type === vduse.VDUSE_SET_STATUS) await this.#status(request.s.status);
      else if (request.type === vduse.VDUSE_UPDATE_IOTLB && this.queues.length > 0) await this.#mapRegions();
      return {};
    };
  }

  /** The disk's bytes, as they are now. */
  get bytes(): Uint8Array {
    return this.aperture.viewOwn(this.memory);
  }

  /** The rings of a queue, as the device sees them: for a device that cheats. */
  ring(index: number): DataView {
    const region = [...this.#regions.values()][0] as Window;
    const { rings } = this.queues[index] as ServedQueue;
    return new DataView(
      this.aperture.memory.buffer,
      rings.device,
      region.linear + region.bytes - rings.device,
    );
  }

  /** What the device has mapped of the driver's memory, in the order of its IOVAs. */
  get regions(): Uint8Array[] {
    const starts = [...this.#regions.keys()].sort((a, b) => Number(a - b));
    return starts.map((start) => this.aperture.viewOwn(this.#regions.get(start) as Window));
  }

  interrupt(index: number): void {
    loadAddon().eventfdSignal((this.queues[index] as ServedQueue).callFd);
  }

  /** Makes the device think that it has `bytes` bytes only: IOERR beyond. */
  shrink(bytes: number): void {
    this.aperture.u64[(this.#disk + DISK_CAPACITY) / 8] = BigInt(bytes / VIRTIO_BLK_SECTOR_SIZE);
  }

  /** Makes the device forget all requests but reads, writes and the id. */
  forget(): void {
    this.aperture.u32[(this.#disk + DISK_FLAGS) / 4] = 0;
  }

  /** Serves what is on the rings now, without waiting for a kick, and without interrupts. */
  serveNow(): void {
    for (const queue of this.queues) while (this.aperture.engine.blkServe(queue.vq, this.#disk) & COUNT_MASK);
  }

  /** Watches the doorbell pages from now on: gives what was stored to each so far, −1 for nothing. */
  async watchDoorbells(): Promise<() => number[]> {
    const views = await Promise.all(this.queues.map((_, index) => this.#doorbell(index)));
    const rung = this.queues.map(() => -1);
    // Nothing else writes there: a page that is not what it was put to was rung.
    for (const view of views) view.setUint32(0, UNRUNG, true);
    this.#timer = setInterval(() => {
      views.forEach((view, index) => {
        const value = view.getUint32(0, true);
        if (value === UNRUNG) return;
        rung[index] = value;
        view.setUint32(0, UNRUNG, true);
        this.#serve(this.queues[index] as ServedQueue);
      });
    }, 1);
    return () => rung;
  }

  /** The page of a queue, which nobody can take away: it is a sealed file's. */
  async #doorbell(index: number): Promise<DataView> {
    const page = await this.#file.doorbell(index);
    assert.ok(page);
    const { linear, bytes } = this.aperture.map(page, PAGE_SIZE, 'rw');
    loadAddon().close(page.fd);
    return new DataView(this.aperture.memory.buffer, linear, bytes);
  }

  /** Lets held requests go. */
  release(): void {
    this.held = false;
    for (const queue of this.queues) this.#serve(queue);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#stop();
    this.aperture.close();
  }

  async #status(status: number): Promise<void> {
    if (!(status & VIRTIO_CONFIG_S_DRIVER_OK)) this.#stop();
    else if (this.queues.length === 0) await this.#start();
  }

  async #start(): Promise<void> {
    const { aperture } = this;
    aperture.engine.iotlbInit(this.#iotlb, 16);
    await this.#mapRegions();
    const features = new Uint8Array(8);
    await this.#file.ioctl(vduse.VDUSE_DEV_GET_FEATURES, features);
    for (let index = 0; index < (this.#options.queues ?? 1); index++)
      await this.#startQueue(index, u64.decode(features));
  }

  /** Maps what the driver has mapped and is not here yet. A driver that runs only ever adds: what is mapped stays as it is. */
  async #mapRegions(): Promise<void> {
    const { aperture } = this;
    for (let start = 0n; ; ) {
      const entry = vduse.vduseIotlbEntry.encode({ start, last: LAST });
      let fd: number;
      try {
        fd = await this.#file.ioctl(vduse.VDUSE_IOTLB_GET_FD, entry);
      } catch {
        break;
      }
      const region = vduse.vduseIotlbEntry.decode(entry);
      if (!this.#regions.has(region.start)) {
        const bytes = region.last - region.start + 1n;
        const window = aperture.map({ fd, offset: region.offset }, Number(bytes), 'rw');
        this.#regions.set(region.start, window);
        const access = IOTLB_ACCESS_READ | IOTLB_ACCESS_WRITE;
        aperture.engine.iotlbMap(this.#iotlb, region.start, bytes, window.linear, access);
      }
      closeSync(fd);
      if (region.last === LAST) break;
      start = region.last + 1n;
    }
  }

  async #startQueue(index: number, features: bigint): Promise<void> {
    const { aperture } = this;
    const argument = vduse.vduseVqInfo.encode({ index });
    await this.#file.ioctl(vduse.VDUSE_VQ_GET_INFO, argument);
    const info = vduse.vduseVqInfo.decode(argument);
    if (!info.ready) return;
    const at = (iova: bigint) =>
      aperture.engine.iotlbTranslate(this.#iotlb, iova, 4, IOTLB_ACCESS_READ) >>> 0;
    const rings = {
      desc: at(info.desc_addr),
      driver: at(info.driver_addr),
      device: at(info.device_addr),
      size: info.num,
    };
    const vq = aperture.allocate(VQ_BLOCK_SIZE);
    const has = (bit: number, flag: number) => ((features >> BigInt(bit)) & 1n ? flag : 0);
    const words: [number, number][] = [
      [VQ_SIZE, info.num],
      [
        VQ_FLAGS,
        has(VIRTIO_RING_F_EVENT_IDX, VQ_F_EVENT_IDX) | has(VIRTIO_RING_F_INDIRECT_DESC, VQ_F_INDIRECT_DESC),
      ],
      [VQ_DESC, rings.desc],
      [VQ_DRIVER, rings.driver],
      [VQ_DEVICE, rings.device],
      [VQ_IOTLB, this.#iotlb],
      [VQ_CHAINS, aperture.allocate(BURST * CHAIN_SIZE)],
      [VQ_SEGMENTS, aperture.allocate((SEGMENTS + SEGMENTS_SLACK) * SEGMENT_SIZE)],
      [VQ_SEGMENTS_CAPACITY, SEGMENTS],
      [VQ_BURST, BURST],
      [VQ_SNAPSHOT, aperture.allocate((info.num + 4) * VIRTQ_DESC_SIZE)],
      [VQ_HEADS, aperture.allocate(info.num)],
    ];
    for (const [offset, value] of words) aperture.u32[(vq + offset) / 4] = value;
    aperture.engine.deviceStart(vq, 0);
    const own = loadAddon().eventfd();
    await this.#file.ioctl(vduse.VDUSE_VQ_SETUP_KICKFD, vduse.vduseVqEventfd.encode({ index, fd: own }));
    closeSync(own);
    const kickFd = await this.#file.kickFd(index, own);
    const callFd = await this.#file.callFd(index);
    const queue: ServedQueue = {
      vq,
      kickFd,
      callFd,
      rings,
      watcher: loadAddon().watch(kickFd, () => {
        loadAddon().eventfdDrain(kickFd);
        this.#serve(queue);
      }),
    };
    queue.watcher.unref();
    this.queues.push(queue);
    this.#serve(queue);
  }

  #serve(queue: ServedQueue): void {
    const { engine } = this.aperture;
    do {
      if (this.held) {
        engine.deviceArm(queue.vq);
        return;
      }
      for (let result = engine.blkServe(queue.vq, this.#disk); result & COUNT_MASK; ) {
        if (result & NOTIFY_DUE) loadAddon().eventfdSignal(queue.callFd);
        result = engine.blkServe(queue.vq, this.#disk);
      }
      const verdict = this.aperture.u32[(queue.vq + VQ_VERDICT) / 4];
      if (verdict) throw new Error(`the driver's ring was refused: verdict ${verdict}`);
    } while (engine.deviceArm(queue.vq) > 0);
  }

  #stop(): void {
    for (const queue of this.queues.splice(0)) queue.watcher.close();
    for (const region of this.#regions.values()) this.aperture.unmap(region);
    this.#regions.clear();
  }
}

/** A disk on a bus of its own, and a driver that has it open. */
export interface DiskScene {
  bus: Bus;
  device: TestDisk;
  disk: BlockDisk;
  file: VduseFile;
}

/** Puts a test disk on a new bus. */
export async function serveTestDisk(
  options: TestDiskOptions = {},
): Promise<{ bus: Bus; device: TestDisk; file: VduseFile }> {
  const queues = options.queues ?? 1;
  const bits = [
    VIRTIO_F_VERSION_1,
    VIRTIO_F_ACCESS_PLATFORM,
    VIRTIO_RING_F_INDIRECT_DESC,
    VIRTIO_RING_F_EVENT_IDX,
    VIRTIO_BLK_F_FLUSH,
    VIRTIO_BLK_F_BLK_SIZE,
    VIRTIO_BLK_F_MQ,
    VIRTIO_BLK_F_DISCARD,
    VIRTIO_BLK_F_WRITE_ZEROES,
    ...(options.readOnly ? [VIRTIO_BLK_F_RO] : []),
    ...(options.add ?? []),
  ].filter((bit) => !options.without?.includes(bit));
  const bus = new Bus(options);
  const { file } = await createDevice(bus, {
    features: bits.reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n),
    queues,
    queueSize: options.queueSize ?? 256,
    config: virtioBlkConfig.encode({
      capacity: BigInt(CAPACITY / VIRTIO_BLK_SECTOR_SIZE),
      blk_size: 4096,
      num_queues: queues,
      max_discard_sectors: 1024,
      max_discard_seg: 1,
      max_write_zeroes_sectors: 1024,
      max_write_zeroes_seg: 1,
      write_zeroes_may_unmap: 1,
      ...options.config,
    }),
  });
  const device = new TestDisk(file, options);
  await bus.attach('disk0', options);
  return { bus, device, file };
}

/** Serves a disk, opens it, plays `act` and takes everything down. */
export async function diskScene(
  act: (scene: DiskScene) => Promise<void>,
  options: TestDiskOptions = {},
  open: OpenBlockOptions = {},
): Promise<void> {
  const { bus, device, file } = await serveTestDisk(options);
  try {
    const disk = await within(openBlock('disk0', { bus, ...open }), 'opening the disk');
    try {
      await within(act({ bus, device, disk, file }), 'the scene', options.patience);
    } finally {
      device.release();
      await within(disk.close(), 'closing the disk');
    }
  } finally {
    await within(bus.close(), 'closing the bus');
    device.close();
  }
}

/** Asserts that a call rejects with a code, and a message where one is given. The error. */
export async function rejects(
  call: Promise<unknown>,
  code: string,
  message?: RegExp,
): Promise<RingbellError> {
  let error: unknown;
  try {
    await within(call, `waiting for ${code}`);
  } catch (caught) {
    error = caught;
  }
  assert.ok(error instanceof Error, `expected ${code}, got success`);
  assert.is((error as RingbellError).code, code, error.message);
  if (message) assert.match(error.message, message);
  return error as RingbellError;
}

/** `bytes` bytes that differ from their neighbours, and with `seed`. */
export function pattern(bytes: number, seed = 1): Uint8Array {
  return Uint8Array.from(
    { length: bytes },
    (_, index) => (index * 31 + (index >> 8) * 7 + seed * 101) & 0xff,
  );
}
