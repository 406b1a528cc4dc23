import { closeSync, writeSync } from 'node:fs';
import { Aperture } from '../../host/aperture/aperture.js';
import { loadAddon } from '../../host/native/addon.js';
import { u64 } from '../../host/uapi/codec.js';
import * as vhost from '../../host/uapi/vhost.js';
import {
  VIRTIO_BLK_S_OK,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_VERSION_1,
  VIRTIO_RING_F_INDIRECT_DESC,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from '../../host/uapi/virtio.js';
import type { VhostVdpaFile } from '../../host/vhost-vdpa/file.js';
import type { VhostVdpaBus } from '../../host/vhost-vdpa/open.js';
import { VHOST_VDPA_RESET_VRING } from '../../host/vhost-vdpa/reset-extension.js';
import {
  getStatus,
  iotlbMessage,
  STATUS_DRIVER_OK,
  STATUS_FEATURES_OK,
  setStatus,
  vringState,
} from '../bus/fixture.js';
import { until, within } from './fixture.js';

/** One descriptor; `flags` without NEXT, which `offer` sets. */
export interface Descriptor {
  addr: bigint;
  len: number;
  flags?: number;
  next?: number;
}

/** IOVA of the driver's memory: more than 32 bits, so that nothing works by accident. */
export const IOVA = 0x7f12_0000_0000n;
/** Bytes of the driver's memory. */
export const MEMORY_BYTES = 2 ** 20;
/** Entries. */
export const QUEUE_SIZE = 16;
/** Offsets in the driver's memory. */
export const HEADER = 0x4000;
export const STATUS_BYTE = 0x4100;
export const DATA = 0x8000;
const DRIVER_AREA = 0x1000;
const DEVICE_AREA = 0x2000;

export const FEATURES = [VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM, VIRTIO_RING_F_INDIRECT_DESC];

/** Where a queue is to lie, and how many entries it has. */
interface Placement {
  desc?: bigint;
  size?: number;
}

/** The memory of a driver: a memory file that can be truncated unless it is sealed. */
class DriverMemory {
  readonly fd: number;
  /** Process address. */
  readonly address: bigint;
  readonly bytes: Uint8Array;

  constructor(sealed: boolean) {
    const aperture = Aperture.create({ bytes: 2 ** 24, privateBytes: 2 ** 16 });
    this.fd = loadAddon().memfd('test', MEMORY_BYTES, sealed);
    const window = aperture.map({ fd: this.fd, offset: 0n }, MEMORY_BYTES, 'rw');
    this.address = aperture.address + BigInt(window.linear);
    this.bytes = aperture.viewOwn(window);
  }
}

/** A driver that writes its ring by hand, well or badly. It has one queue and no event index. */
export class RawDriver {
  readonly file: VhostVdpaFile;
  readonly memory: DriverMemory;
  readonly data: DataView;
  readonly #batched: boolean;
  /** Address space that everything is mapped in. */
  asid = 0;
  #kick = loadAddon().eventfd();
  readonly #call = loadAddon().eventfd();
  #avail = 0;

  /**
   * Opens `name`, which resets it. `batched` is for a driver on the kernel whose device is in the same process: the kernel
   * holds the process's address space while it asks the device about a mapping outside a batch (vhost_vdpa_va_map).
   */
  static async open(bus: VhostVdpaBus, name = 'disk0', sealed = true, batched = false): Promise<RawDriver> {
    const file = await within(bus.openVhostVdpa(name), 'open');
    await file.ioctl(vhost.VHOST_SET_OWNER);
    return new RawDriver(file, sealed, batched);
  }

  private constructor(file: VhostVdpaFile, sealed: boolean, batched: boolean) {
    this.#batched = batched;
    this.file = file;
    this.memory = new DriverMemory(sealed);
    const { buffer, byteOffset, byteLength } = this.memory.bytes;
    this.data = new DataView(buffer, byteOffset, byteLength);
  }

  /** From status 0 to DRIVER_OK, or as far as the device goes: the status then. */
  async start(
    change: { perm?: number; features?: number[]; late?: boolean } & Placement = {},
  ): Promise<number> {
    this.memory.bytes.fill(0);
    const { file } = this;
    const features = (change.features ?? FEATURES).reduce((bits, bit) => bits | (1n << BigInt(bit)), 0n);
    await setStatus(file, 3);
    await file.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(features));
    await setStatus(file, STATUS_FEATURES_OK).catch(() => {});
    await this.map(change.perm);
    await this.place(change);
    await file.ioctl(vhost.VHOST_SET_VRING_KICK, vhost.vhostVringFile.encode({ index: 0, fd: this.#kick }));
    await file.ioctl(vhost.VHOST_SET_VRING_CALL, vhost.vhostVringFile.encode({ index: 0, fd: this.#call }));
    if (!change.late) await this.enable();
    await setStatus(file, STATUS_DRIVER_OK).catch(() => {});
    return getStatus(file);
  }

  /** Says where the queue is, which has nothing in it. */
  async place({ desc = IOVA, size = QUEUE_SIZE }: Placement = {}): Promise<void> {
    const { file } = this;
    this.#avail = 0;
    await file.ioctl(vhost.VHOST_SET_VRING_NUM, vringState(0, size));
    const addr = {
      index: 0,
      desc_user_addr: desc,
      avail_user_addr: IOVA + BigInt(DRIVER_AREA),
      used_user_addr: IOVA + BigInt(DEVICE_AREA),
    };
    await file.ioctl(vhost.VHOST_SET_VRING_ADDR, vhost.vhostVringAddr.encode(addr));
    await file.ioctl(vhost.VHOST_SET_VRING_BASE, vringState(0, 0));
  }

  /** Resets the queue alone. */
  async resetQueue(): Promise<void> {
    await this.file.ioctl(VHOST_VDPA_RESET_VRING, vringState(0, 0));
  }

  /** Whether the device has interrupted the driver since it was last asked. */
  interrupted(): boolean {
    return loadAddon().eventfdDrain(this.#call) > 0;
  }

  /** Makes the queue ready: by `start`, unless that is to happen `late`. */
  async enable(): Promise<void> {
    await this.file.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(0, 1));
  }

  /** Gives the group of the queue address space `asid`, and maps everything there from now on. Before `start`. */
  async moveTo(asid: number): Promise<void> {
    const bits = [vhost.VHOST_BACKEND_F_IOTLB_MSG_V2, vhost.VHOST_BACKEND_F_IOTLB_ASID];
    const features = bits.reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n);
    await this.file.ioctl(vhost.VHOST_SET_BACKEND_FEATURES, u64.encode(features));
    await this.file.ioctl(vhost.VHOST_VDPA_SET_GROUP_ASID, vringState(0, asid));
    this.asid = asid;
  }

  /** Maps all of the driver's memory, at its own IOVA or at another one as well. */
  async map(perm = vhost.VHOST_ACCESS_RW, iova = IOVA): Promise<void> {
    await this.update({ iova, size: BigInt(MEMORY_BYTES), uaddr: this.memory.address, perm });
  }

  /** Maps anything. */
  async update(mapping: Parameters<typeof iotlbMessage>[1]): Promise<void> {
    const { asid } = this;
    if (this.#batched) await this.file.write(iotlbMessage(vhost.VHOST_IOTLB_BATCH_BEGIN, {}, asid));
    await this.file.write(iotlbMessage(vhost.VHOST_IOTLB_UPDATE, mapping, asid));
    if (this.#batched) await this.file.write(iotlbMessage(vhost.VHOST_IOTLB_BATCH_END, {}, asid));
  }

  /** Unmaps all of it. */
  async unmap(): Promise<void> {
    await this.file.write(
      iotlbMessage(vhost.VHOST_IOTLB_INVALIDATE, { iova: IOVA, size: BigInt(MEMORY_BYTES) }, this.asid),
    );
  }

  async reset(): Promise<void> {
    await setStatus(this.file, 0);
    await this.unmap().catch(() => {});
  }

  status(): Promise<number> {
    return getStatus(this.file);
  }

  /** Writes descriptors from index `at` on, chained. */
  describe(descriptors: Descriptor[], at = 0): void {
    for (const [index, { addr, len, flags = 0, next = at + index + 1 }] of descriptors.entries()) {
      const offset = (at + index) * 16;
      const chained = index < descriptors.length - 1 ? VIRTQ_DESC_F_NEXT : 0;
      this.data.setBigUint64(offset, addr, true);
      this.data.setUint32(offset + 8, len, true);
      this.data.setUint16(offset + 12, flags | chained, true);
      this.data.setUint16(offset + 14, next, true);
    }
  }

  /** Makes a head available and kicks. `skip` lies about how many there are. */
  offer(head: number, skip = 1): void {
    this.data.setUint16(DRIVER_AREA + 4 + (this.#avail % QUEUE_SIZE) * 2, head, true);
    this.#avail += skip;
    this.data.setUint16(DRIVER_AREA + 2, this.#avail, true);
    this.kick();
  }

  /** Fills the counter of the kick eventfd, so that nothing more can be added to it until it is read. */
  saturateKick(): void {
    // A kick that the device has not drained yet would make it too much.
    loadAddon().eventfdDrain(this.#kick);
    writeSync(this.#kick, u64.encode(2n ** 64n - 2n));
  }

  kick(): void {
    loadAddon().eventfdSignal(this.#kick);
  }

  /** Kicks through another eventfd from now on. */
  async rebindKick(): Promise<void> {
    closeSync(this.#kick);
    this.#kick = loadAddon().eventfd();
    await this.file.ioctl(
      vhost.VHOST_SET_VRING_KICK,
      vhost.vhostVringFile.encode({ index: 0, fd: this.#kick }),
    );
  }

  /** used.idx. */
  get used(): number {
    return this.data.getUint16(DEVICE_AREA + 2, true);
  }

  /** An entry of the used ring. */
  usedEntry(index: number): { id: number; len: number } {
    const entry = DEVICE_AREA + 4 + (index % QUEUE_SIZE) * 8;
    return { id: this.data.getUint32(entry, true), len: this.data.getUint32(entry + 4, true) };
  }

  /** Used length of the used element that was published last. */
  get usedLength(): number {
    return this.data.getUint32(DEVICE_AREA + 4 + ((this.used - 1) % QUEUE_SIZE) * 8 + 4, true);
  }

  /** A whole, sound request of `bytes` bytes at `sector`, waited for: its status byte. */
  async request(type: number, sector: bigint, bytes: number): Promise<number> {
    this.data.setUint32(HEADER, type, true);
    this.data.setBigUint64(HEADER + 8, sector, true);
    this.data.setUint8(STATUS_BYTE, 0xff);
    this.describe([
      { addr: IOVA + BigInt(HEADER), len: 16 },
      { addr: IOVA + BigInt(DATA), len: bytes, flags: type === 0 ? VIRTQ_DESC_F_WRITE : 0 },
      { addr: IOVA + BigInt(STATUS_BYTE), len: 1, flags: VIRTQ_DESC_F_WRITE },
    ]);
    const used = this.used;
    this.offer(0);
    await until(() => this.used !== used, 'a used buffer');
    return this.data.getUint8(STATUS_BYTE);
  }

  /** Whether a read succeeds. */
  async works(): Promise<boolean> {
    return (await this.request(0, 0n, 512)) === VIRTIO_BLK_S_OK;
  }

  async close(): Promise<void> {
    await within(this.file.close(), 'closing the driver');
    closeSync(this.#kick);
    closeSync(this.#call);
    closeSync(this.memory.fd);
  }
}
