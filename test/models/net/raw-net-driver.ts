import { openVhostVdpa, SharedMemory } from '../../../host/index.js';
import { loadAddon } from '../../../host/native/addon.js';
import { mask } from '../../../host/uapi/bits.js';
import type { Decoded } from '../../../host/uapi/struct.js';
import {
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_HDR_SIZE,
  VIRTQ_AVAIL_IDX,
  VIRTQ_AVAIL_RING,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
  VIRTQ_USED_ENTRY_SIZE,
  VIRTQ_USED_IDX,
  VIRTQ_USED_RING,
  virtioNetConfig,
  virtioNetHdrV1,
} from '../../../host/uapi/virtio.js';
import type { VhostVdpa } from '../../../host/vhost-vdpa/device.js';
import type { VhostVdpaBus } from '../../../host/vhost-vdpa/open.js';
import { until, within } from '../fixture.js';

/** Entries of each queue; and bytes of memory behind each descriptor. */
const ENTRIES = 256;
const SLOT_BYTES = 0x12000;
/** Bytes of the areas of a queue, one behind the other: descriptors, available ring, used ring. */
const AREA_BYTES = 0x1000;
const IOVA = 0x7f12_0000_0000n;

const BASE_FEATURES = [
  VIRTIO_F_VERSION_1,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_STATUS,
];

/** A frame as it came: its header, and how many bytes of it each buffer has. */
export interface Received {
  header: Decoded<typeof virtioNetHdrV1>;
  frame: Uint8Array;
  buffers: number[];
}

/** One split queue, written by hand. A chain's descriptors are those from its head on. */
class RawQueue {
  readonly kickFd = loadAddon().eventfd();
  readonly callFd = loadAddon().eventfd();
  readonly #view: DataView;
  readonly #base: number;
  #descriptor = 0;
  #avail = 0;
  #seen = 0;

  constructor(view: DataView, base: number) {
    this.#view = view;
    this.#base = base;
  }

  get rings() {
    const at = (area: number) => IOVA + BigInt(this.#base + area * AREA_BYTES);
    return { desc: at(0), avail: at(1), used: at(2) };
  }

  /** Chains that the device has given back. */
  get used(): number {
    return this.#view.getUint16(this.#base + 2 * AREA_BYTES + VIRTQ_USED_IDX, true);
  }

  /** Puts a chain of pieces on the ring, without a kick: bytes to be read, or a number of bytes to be written to. */
  offer(pieces: readonly (Uint8Array | number)[]): void {
    const head = this.#descriptor;
    pieces.forEach((piece, index) => {
      const slot = this.#descriptor++ % ENTRIES;
      const bytes = this.slot(slot);
      if (typeof piece !== 'number') bytes.set(piece);
      const at = this.#base + slot * VIRTQ_DESC_SIZE;
      const last = index === pieces.length - 1;
      this.#view.setBigUint64(at, IOVA + BigInt(bytes.byteOffset - this.#view.byteOffset), true);
      this.#view.setUint32(at + 8, typeof piece === 'number' ? piece : piece.length, true);
      const flags = (typeof piece === 'number' ? VIRTQ_DESC_F_WRITE : 0) | (last ? 0 : VIRTQ_DESC_F_NEXT);
      this.#view.setUint16(at + 12, flags, true);
      this.#view.setUint16(at + 14, (slot + 1) % ENTRIES, true);
    });
    const ring = this.#base + AREA_BYTES;
    this.#view.setUint16(ring + VIRTQ_AVAIL_RING + (this.#avail++ % ENTRIES) * 2, head % ENTRIES, true);
    this.#view.setUint16(ring + VIRTQ_AVAIL_IDX, this.#avail, true);
  }

  kick(): void {
    loadAddon().eventfdSignal(this.kickFd);
  }

  /** The next chain that was given back, waited for. */
  async take(): Promise<{ head: number; bytes: number }> {
    await until(() => this.used !== (this.#seen & 0xffff), 'a used chain');
    const entry =
      this.#base + 2 * AREA_BYTES + VIRTQ_USED_RING + (this.#seen++ % ENTRIES) * VIRTQ_USED_ENTRY_SIZE;
    return { head: this.#view.getUint32(entry, true), bytes: this.#view.getUint32(entry + 4, true) };
  }

  /** Memory behind a descriptor. */
  slot(slot: number): Uint8Array {
    const at = this.#base + 4 * AREA_BYTES + slot * SLOT_BYTES;
    return new Uint8Array(this.#view.buffer, this.#view.byteOffset + at, SLOT_BYTES);
  }

  /** Forgets everything, for a queue that starts anew. */
  restart(): void {
    this.#descriptor = this.#avail = this.#seen = 0;
    new Uint8Array(this.#view.buffer, this.#view.byteOffset + this.#base, 4 * AREA_BYTES).fill(0);
  }

  close(): void {
    loadAddon().close(this.kickFd);
    loadAddon().close(this.callFd);
  }
}

/** Bytes of memory of a queue. */
const QUEUE_BYTES = 4 * AREA_BYTES + ENTRIES * SLOT_BYTES;

/** A driver of a network device that says what it likes: headers, buffers of any size, commands. */
export class RawNetDriver {
  readonly device: VhostVdpa;
  readonly features: bigint;
  readonly queues: readonly RawQueue[];
  readonly #memory: SharedMemory;

  /** Opens `net0` with `features` besides those that every driver has, and `queues` queues. */
  static async open(
    bus: VhostVdpaBus & object,
    features: readonly number[] = [],
    queues = 2,
  ): Promise<RawNetDriver> {
    const device = await within(openVhostVdpa('net0', { bus: bus as never }), 'opening');
    const memory = SharedMemory.create(queues * QUEUE_BYTES);
    await device.reset();
    await device.acknowledge();
    const wanted = mask(...BASE_FEATURES, ...features);
    const agreed = await device.negotiate(wanted, 0n);
    await device.map([{ iova: IOVA, bytes: BigInt(memory.bytes.length), address: memory.address }]);
    const driver = new RawNetDriver(device, agreed, memory, queues);
    for (const index of driver.queues.keys()) await driver.startQueue(index);
    await device.driverOk();
    return driver;
  }

  private constructor(device: VhostVdpa, features: bigint, memory: SharedMemory, queues: number) {
    this.device = device;
    this.features = features;
    this.#memory = memory;
    const { buffer, byteOffset, byteLength } = memory.bytes;
    const view = new DataView(buffer, byteOffset, byteLength);
    this.queues = Array.from({ length: queues }, (_, index) => new RawQueue(view, index * QUEUE_BYTES));
  }

  async startQueue(index: number): Promise<void> {
    const queue = this.queues[index]!;
    queue.restart();
    const { kickFd, callFd, rings } = queue;
    await this.device.setVring({ index, num: ENTRIES, ...rings, kickFd, callFd });
    await this.device.enableVring(index);
  }

  /** The config space. */
  async config(): Promise<Decoded<typeof virtioNetConfig>> {
    const bytes = new Uint8Array(virtioNetConfig.size);
    bytes.set(await this.device.config(this.device.configSize!));
    return virtioNetConfig.decode(bytes);
  }

  /** Gives `count` buffers of `bytes` bytes, each cut in two, for frames to come. */
  give(bytes: number, count = 1, pair = 0): void {
    const queue = this.queues[2 * pair]!;
    for (let buffer = 0; buffer < count; buffer++) queue.offer([bytes]);
    queue.kick();
  }

  /** Sends frames in one go, each with its header in front, and waits until the device has given them back. */
  async send(
    frames: readonly Uint8Array[],
    header: Partial<Decoded<typeof virtioNetHdrV1>> = {},
    pair = 0,
  ): Promise<void> {
    const queue = this.queues[2 * pair + 1]!;
    for (const frame of frames) queue.offer([virtioNetHdrV1.encode(header), frame]);
    queue.kick();
    for (const _ of frames) await queue.take();
  }

  /** The next frame, waited for. When its first buffer is there the others have to be, too. */
  async receive(pair = 0): Promise<Received> {
    const queue = this.queues[2 * pair]!;
    const first = await queue.take();
    const header = virtioNetHdrV1.decode(queue.slot(first.head).slice(0, VIRTIO_NET_HDR_SIZE));
    const parts = [queue.slot(first.head).slice(VIRTIO_NET_HDR_SIZE, first.bytes)];
    const buffers = [first.bytes];
    for (let more = header.num_buffers; more > 1; more--) {
      const { head, bytes } = await within(queue.take(), 'the rest of a frame', 0);
      parts.push(queue.slot(head).slice(0, bytes));
      buffers.push(bytes);
    }
    return { header, frame: new Uint8Array(Buffer.concat(parts)), buffers };
  }

  /** Sends a command by queue `index`: the byte that the device answers. */
  async command(bytes: Uint8Array, index = this.queues.length - 1): Promise<number> {
    const queue = this.queues[index]!;
    queue.offer(
      [bytes.subarray(0, 2), bytes.subarray(2), 1].filter(
        (piece) => piece === 1 || (piece as Uint8Array).length > 0,
      ),
    );
    queue.kick();
    const { head } = await queue.take();
    const pieces = bytes.length > 2 ? 2 : 1;
    return queue.slot((head + pieces) % ENTRIES)[0]!;
  }

  async close(): Promise<void> {
    await within(this.device.close(), 'closing the driver');
    for (const queue of this.queues) queue.close();
    this.#memory.close();
  }
}
