import * as layout from '../../../assembly/layout.js';
import * as virtio from '../../../assembly/virtio.js';
import type { Piece } from '../../virtqueue/regions.js';
import type { Segments } from '../../virtqueue/split-chain.js';

/** A disk in memory as its device announces it. */
export interface DiskConfig {
  /** Sectors. */
  capacity: number;
  /** DISK_F_* bits. */
  flags: number;
  /** Sectors; the most that one range covers. */
  maxRange: number;
  id: Uint8Array;
}

/**
 * A block device by the letter of the specification ("Block Device", Device Operation), on `memory`, an image of linear
 * memory, and `disk`, an image of the disk: what the engine's must be like afterwards.
 */
export class DiskModel {
  readonly #config: DiskConfig;
  readonly #memory: Uint8Array;
  readonly #disk: Uint8Array;
  /** Linear address of the first byte of `memory`. */
  readonly #base: number;

  constructor(config: DiskConfig, memory: Uint8Array, base: number, disk: Uint8Array) {
    this.#config = config;
    this.#memory = memory;
    this.#base = base;
    this.#disk = disk;
  }

  /** Serves one chain: the used length, or undefined for a chain that is no request. */
  serve({ readable, writable }: Segments): number | undefined {
    const out = this.#gather(readable);
    const room = writable.reduce((sum, [, bytes]) => sum + bytes, 0);
    if (room === 0 || out.length < virtio.VIRTIO_BLK_HEADER_SIZE) return undefined;
    const header = new DataView(out.buffer);
    const type = header.getUint32(virtio.VIRTIO_BLK_HEADER_TYPE, true);
    const sector = header.getBigUint64(virtio.VIRTIO_BLK_HEADER_SECTOR, true);
    const answer = this.#answer(type, sector, out.subarray(virtio.VIRTIO_BLK_HEADER_SIZE), room - 1);
    if (answer.data) this.#scatter(writable, 0, answer.data);
    this.#scatter(writable, room - 1, Uint8Array.of(answer.status));
    return (answer.data?.length ?? 0) + 1;
  }

  /** Status of a request, and what it reads. `out`: bytes behind the header; `room`: bytes before the status. */
  #answer(
    type: number,
    sector: bigint,
    out: Uint8Array,
    room: number,
  ): { status: number; data?: Uint8Array } {
    const { flags, id } = this.#config;
    switch (type) {
      case virtio.VIRTIO_BLK_T_IN: {
        const at = this.#place(sector, room);
        if (at === undefined) return { status: virtio.VIRTIO_BLK_S_IOERR };
        return { status: virtio.VIRTIO_BLK_S_OK, data: this.#disk.slice(at, at + room) };
      }
      case virtio.VIRTIO_BLK_T_OUT: {
        const at = this.#place(sector, out.length);
        if (at === undefined || flags & layout.DISK_F_RO) return { status: virtio.VIRTIO_BLK_S_IOERR };
        this.#disk.set(out, at);
        return { status: virtio.VIRTIO_BLK_S_OK };
      }
      case virtio.VIRTIO_BLK_T_FLUSH:
        return { status: flags & layout.DISK_F_FLUSH ? virtio.VIRTIO_BLK_S_OK : virtio.VIRTIO_BLK_S_UNSUPP };
      case virtio.VIRTIO_BLK_T_GET_ID:
        return {
          status: virtio.VIRTIO_BLK_S_OK,
          data: id.slice(0, Math.min(room, virtio.VIRTIO_BLK_ID_BYTES)),
        };
      case virtio.VIRTIO_BLK_T_DISCARD:
        return {
          status: flags & layout.DISK_F_DISCARD ? this.#range(out, false) : virtio.VIRTIO_BLK_S_UNSUPP,
        };
      case virtio.VIRTIO_BLK_T_WRITE_ZEROES:
        return {
          status: flags & layout.DISK_F_WRITE_ZEROES ? this.#range(out, true) : virtio.VIRTIO_BLK_S_UNSUPP,
        };
      default:
        return { status: virtio.VIRTIO_BLK_S_UNSUPP };
    }
  }

  /** Zeroes the one range that `out` describes: the status. */
  #range(out: Uint8Array, mayUnmap: boolean): number {
    if (out.length < virtio.VIRTIO_BLK_RANGE_SIZE) return virtio.VIRTIO_BLK_S_IOERR;
    if (out.length > virtio.VIRTIO_BLK_RANGE_SIZE) return virtio.VIRTIO_BLK_S_UNSUPP;
    const range = new DataView(out.buffer, out.byteOffset);
    const flags = range.getUint32(virtio.VIRTIO_BLK_RANGE_FLAGS, true);
    const known = mayUnmap ? virtio.VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
    if (flags & ~known) return virtio.VIRTIO_BLK_S_UNSUPP;
    const sectors = range.getUint32(virtio.VIRTIO_BLK_RANGE_NUM_SECTORS, true);
    const bytes = sectors * virtio.VIRTIO_BLK_SECTOR_SIZE;
    const at = this.#place(range.getBigUint64(virtio.VIRTIO_BLK_RANGE_SECTOR, true), bytes);
    const { flags: disk, maxRange } = this.#config;
    if (at === undefined || sectors > maxRange || disk & layout.DISK_F_RO) return virtio.VIRTIO_BLK_S_IOERR;
    this.#disk.fill(0, at, at + bytes);
    return virtio.VIRTIO_BLK_S_OK;
  }

  /** Byte offset of a range of whole sectors that the disk has. */
  #place(sector: bigint, bytes: number): number | undefined {
    const sectors = bytes / virtio.VIRTIO_BLK_SECTOR_SIZE;
    if (!Number.isInteger(sectors)) return undefined;
    if (sector + BigInt(sectors) > BigInt(this.#config.capacity)) return undefined;
    return Number(sector) * virtio.VIRTIO_BLK_SECTOR_SIZE;
  }

  #gather(pieces: readonly Piece[]): Uint8Array {
    const all = new Uint8Array(pieces.reduce((sum, [, bytes]) => sum + bytes, 0));
    let at = 0;
    for (const [linear, bytes] of pieces) {
      all.set(this.#memory.subarray(linear - this.#base, linear - this.#base + bytes), at);
      at += bytes;
    }
    return all;
  }

  /** Writes `data` behind the first `skip` bytes of `pieces`. */
  #scatter(pieces: readonly Piece[], skip: number, data: Uint8Array): void {
    let at = -skip;
    for (const [linear, bytes] of pieces) {
      const from = Math.max(at, 0);
      const piece = data.subarray(from, Math.max(at + bytes, 0));
      if (piece.length) this.#memory.set(piece, linear - this.#base + (from - at));
      at += bytes;
    }
  }
}
