import {
  CACHE_LINE,
  IO_BYTES,
  IO_OFFSET,
  IO_OP,
  IO_OP_PUNCH,
  IO_SIZE,
  PAGE_SIZE,
} from '../../assembly/layout.js';
import { Aperture, type Window } from '../aperture/aperture.js';
import { RingbellError } from '../errors.js';
import { loadAddon } from '../native/addon.js';
import type { IotlbRegion } from '../vhost-vdpa/iotlb-mapper.js';

/** Bytes; unit of WebAssembly.Memory, and so of an aperture. */
const APERTURE_UNIT = 65536;
/** Bytes; where the private part's own bookkeeping and alignment losses go. */
const PRIVATE_SLACK = 65536;
/**
 * IOVA minus linear address where the device's IOVA range has room for it: above 4 GiB, so that whoever takes an IOVA
 * for 32 bits wide is found out at once.
 */
const IOVA_DELTA = 1n << 32n;
/** Bytes; what direct I/O of a device wants its buffers aligned to. */
const SECTOR_ALIGN = 512;

/** What a driver needs memory for. */
export interface DriverMemoryOptions {
  /** For messages and /proc/self/maps. */
  name: string;
  /** Bytes that rings, slots and bounce buffers take. */
  sharedBytes: number;
  /** Bytes that `alloc` gives out. */
  arenaBytes: number;
  /** Bytes of structures that only this process sees. */
  privateBytes: number;
  /** Doorbell pages that may be mapped. */
  doorbells: number;
  /** IOVAs that the device can be told of, `last` included. */
  iovaRange: { first: bigint; last: bigint };
}

/**
 * All memory of one driver: an aperture with one sealed memory file mapped into it, in one piece, for the aperture's whole
 * life. First comes what the driver and the device share to do their work (rings, slots, bounce buffers), then what the
 * application allocates. One piece, so that a device that maps what it sees on first use has mapped everything once it
 * has found the rings. The file cannot shrink, and nobody else can unmap it: JavaScript may touch it.
 */
export class DriverMemory {
  readonly aperture: Aperture;
  /** IOVA minus linear address, for all of the memory, modulo 2^64. */
  readonly iovaDelta: bigint;
  readonly #fd: number;
  readonly #window: Window;
  readonly #view: Uint8Array;
  readonly #arenaStart: number;
  #sharedTop: number;
  #arenaTop: number;
  /** Linear address of the SIGBUS guard's counter. */
  readonly #lost: number;
  /** Linear address of an I/O table of one entry. */
  readonly #io: number;

  /** Throws ERR_ARGUMENT where it does not fit an aperture, ERR_NOT_SUPPORTED where it does not fit the IOVA range. */
  constructor(options: DriverMemoryOptions) {
    const privateBytes = roundUp(options.privateBytes + PRIVATE_SLACK, APERTURE_UNIT);
    const sharedBytes = roundUp(options.sharedBytes, PAGE_SIZE);
    const bytes = sharedBytes + roundUp(options.arenaBytes, PAGE_SIZE);
    this.aperture = Aperture.create({
      // One page more: an aperture keeps its last one inaccessible.
      bytes: roundUp(privateBytes + bytes + (options.doorbells + 1) * PAGE_SIZE, APERTURE_UNIT),
      privateBytes,
    });
    this.#lost = this.aperture.allocate(Int32Array.BYTES_PER_ELEMENT);
    this.#io = this.aperture.allocate(IO_SIZE);
    this.iovaDelta = chooseDelta(privateBytes, bytes, options.iovaRange);
    this.#fd = loadAddon().memfd(options.name, bytes, true);
    try {
      this.#window = this.aperture.map({ fd: this.#fd, offset: 0n }, bytes, 'rw');
      // Our own file cannot shrink, but a doorbell page goes when its device is unplugged.
      this.aperture.guardSigbus(this.#lost);
    } catch (error) {
      loadAddon().close(this.#fd);
      this.aperture.close();
      throw error;
    }
    this.#view = this.aperture.viewOwn(this.#window);
    this.#sharedTop = this.#window.linear;
    this.#arenaStart = this.#arenaTop = this.#window.linear + sharedBytes;
  }

  /** What the device is to be told of. */
  get region(): IotlbRegion {
    const { linear, bytes } = this.#window;
    return {
      iova: this.iova(linear),
      bytes: BigInt(bytes),
      address: this.aperture.address + BigInt(linear),
    };
  }

  /** Whether a page was lost under its mapping. */
  get lost(): boolean {
    return this.aperture.i32[this.#lost / 4] !== 0;
  }

  /** IOVA of a linear address in this memory. */
  iova(linear: number): bigint {
    return BigInt.asUintN(64, BigInt(linear) + this.iovaDelta);
  }

  /** Linear address of `bytes` zeroed bytes that the device sees, for the driver's own use. */
  take(bytes: number, align: number = CACHE_LINE): number {
    const linear = roundUp(this.#sharedTop, align);
    if (linear + bytes > this.#arenaStart)
      throw new RingbellError('ERR_APERTURE_FULL', `no room for ${bytes} bytes of rings and bounce buffers`);
    this.#sharedTop = linear + bytes;
    return linear;
  }

  /** Memory that the device sees, for the application. It stays valid for as long as it is reachable. Throws ERR_APERTURE_FULL. */
  alloc(bytes: number): Uint8Array {
    if (!Number.isSafeInteger(bytes) || bytes < 0)
      throw new TypeError(`bytes must be an integer from 0, not ${bytes}`);
    const end = this.#window.linear + this.#window.bytes;
    const linear = roundUp(this.#arenaTop, bytes < PAGE_SIZE ? SECTOR_ALIGN : PAGE_SIZE);
    if (linear + bytes > end)
      throw new RingbellError(
        'ERR_APERTURE_FULL',
        `alloc(${bytes}): ${Math.max(0, end - linear)} of ${end - this.#arenaStart} bytes are left (allocBytes)`,
      );
    this.#arenaTop = linear + bytes;
    return new Uint8Array(this.aperture.memory.buffer, linear, bytes);
  }

  /** Linear address of memory that `alloc` gave; 0 for any other. */
  linearOf(data: Uint8Array): number {
    return data.buffer === this.aperture.memory.buffer && this.allocated(data.byteOffset, data.byteLength)
      ? data.byteOffset
      : 0;
  }

  /** Whether a linear range lies in memory that `alloc` gave. */
  allocated(linear: number, bytes: number): boolean {
    return linear >= this.#arenaStart && bytes >= 0 && linear + bytes <= this.#arenaTop;
  }

  /** Copies into memory from `take`. */
  copyIn(linear: number, source: Uint8Array): void {
    this.#view.set(source, linear - this.#window.linear);
  }

  /** Copies out of memory from `take`. */
  copyOut(linear: number, target: Uint8Array): void {
    const start = linear - this.#window.linear;
    target.set(this.#view.subarray(start, start + target.byteLength));
  }

  /**
   * Gives back everything that no view of the application can reach; what `alloc` gave goes with the last view of it. The
   * device must have been reset or closed: one that still wrote would write into a file that nobody reads.
   */
  close(): void {
    if (this.#arenaTop > this.#arenaStart) {
      this.#releaseShared();
      this.aperture.leave();
    } else this.aperture.close();
    loadAddon().close(this.#fd);
  }

  /** Takes the driver's own part out of the mapping, and its pages out of the file. */
  #releaseShared(): void {
    const { aperture } = this;
    const bytes = this.#arenaStart - this.#window.linear;
    aperture.u32[(this.#io + IO_OP) / 4] = IO_OP_PUNCH;
    aperture.u64[(this.#io + IO_OFFSET) / 8] = 0n;
    aperture.u64[(this.#io + IO_BYTES) / 8] = BigInt(bytes);
    aperture.prepareFileIo(this.#fd, this.#io)(1);
    aperture.unmap({ linear: this.#window.linear, bytes });
  }
}

function chooseDelta(linear: number, bytes: number, range: { first: bigint; last: bigint }): bigint {
  const fits = (iova: bigint) => iova >= range.first && iova + BigInt(bytes) - 1n <= range.last;
  if (fits(BigInt(linear) + IOVA_DELTA)) return IOVA_DELTA;
  // IOVA 0 is left out: a null address that happens to be valid hides mistakes.
  const lowest = range.first > BigInt(PAGE_SIZE) ? range.first : BigInt(PAGE_SIZE);
  const first = ((lowest + BigInt(PAGE_SIZE) - 1n) / BigInt(PAGE_SIZE)) * BigInt(PAGE_SIZE);
  if (!fits(first))
    throw new RingbellError(
      'ERR_NOT_SUPPORTED',
      `${bytes} bytes do not fit the device's IOVA range 0x${range.first.toString(16)} to 0x${range.last.toString(16)}`,
    );
  return BigInt.asUintN(64, first - BigInt(linear));
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
