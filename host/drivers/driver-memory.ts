import { closeSync } from 'node:fs';
import { CACHE_LINE, PAGE_SIZE } from '../../assembly/layout.js';
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
 * All memory of one driver: an aperture with two sealed memory files mapped into it for the aperture's whole life. One
 * holds what the driver and the device share to do their work (rings, slots, bounce buffers), the other what the
 * application allocates. They are separate files, so that closing gives the first one back while the application may
 * still hold views of the second. The files cannot shrink, and nobody else can unmap them: JavaScript may touch them.
 */
export class DriverMemory {
  readonly aperture: Aperture;
  /** IOVA minus linear address, for all of the memory, modulo 2^64. */
  readonly iovaDelta: bigint;
  /** What the device is to be told of. */
  readonly regions: readonly IotlbRegion[];
  readonly #shared: Window;
  readonly #sharedView: Uint8Array;
  readonly #arena: Window | undefined;
  #sharedTop: number;
  #arenaTop: number;
  readonly #fds: number[] = [];
  /** Linear address of the SIGBUS guard's counter. */
  readonly #lost: number;

  /** Throws ERR_ARGUMENT where it does not fit an aperture, ERR_NOT_SUPPORTED where it does not fit the IOVA range. */
  constructor(options: DriverMemoryOptions) {
    const privateBytes = roundUp(options.privateBytes + PRIVATE_SLACK, APERTURE_UNIT);
    const sharedBytes = roundUp(options.sharedBytes, PAGE_SIZE);
    const arenaBytes = roundUp(options.arenaBytes, PAGE_SIZE);
    const doorbellBytes = options.doorbells * PAGE_SIZE;
    this.aperture = Aperture.create({
      // One page more: an aperture keeps its last one inaccessible.
      bytes: roundUp(privateBytes + sharedBytes + arenaBytes + doorbellBytes + PAGE_SIZE, APERTURE_UNIT),
      privateBytes,
    });
    this.#lost = this.aperture.allocate(Int32Array.BYTES_PER_ELEMENT);
    try {
      // Our own files cannot shrink, but a doorbell page goes when its device is unplugged.
      this.aperture.guardSigbus(this.#lost);
      this.iovaDelta = chooseDelta(privateBytes, sharedBytes + arenaBytes, options.iovaRange);
      this.#shared = this.#mapFile(options.name, sharedBytes);
      this.#sharedView = this.aperture.viewOwn(this.#shared);
      this.#arena = arenaBytes > 0 ? this.#mapFile(`${options.name}.alloc`, arenaBytes) : undefined;
    } catch (error) {
      this.close();
      throw error;
    }
    this.#sharedTop = this.#shared.linear;
    this.#arenaTop = this.#arena?.linear ?? 0;
    this.regions = [this.#shared, this.#arena].flatMap((window) =>
      window
        ? [
            {
              iova: this.iova(window.linear),
              bytes: BigInt(window.bytes),
              address: this.aperture.address + BigInt(window.linear),
            },
          ]
        : [],
    );
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
    if (linear + bytes > this.#shared.linear + this.#shared.bytes)
      throw new RingbellError('ERR_APERTURE_FULL', `no room for ${bytes} bytes of rings and bounce buffers`);
    this.#sharedTop = linear + bytes;
    return linear;
  }

  /** Memory that the device sees, for the application. It stays valid for ever. Throws ERR_APERTURE_FULL. */
  alloc(bytes: number): Uint8Array {
    if (!Number.isSafeInteger(bytes) || bytes < 0)
      throw new TypeError(`bytes must be an integer from 0, not ${bytes}`);
    const end = this.#arena ? this.#arena.linear + this.#arena.bytes : 0;
    const linear = roundUp(this.#arenaTop, bytes < PAGE_SIZE ? SECTOR_ALIGN : PAGE_SIZE);
    if (linear + bytes > end)
      throw new RingbellError(
        'ERR_APERTURE_FULL',
        `alloc(${bytes}): ${Math.max(0, end - linear)} of ${this.#arena?.bytes ?? 0} bytes are left (allocBytes)`,
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
    return (
      this.#arena !== undefined &&
      linear >= this.#arena.linear &&
      bytes >= 0 &&
      linear + bytes <= this.#arenaTop
    );
  }

  /** Copies into memory from `take`. */
  copyIn(linear: number, source: Uint8Array): void {
    this.#sharedView.set(source, linear - this.#shared.linear);
  }

  /** Copies out of memory from `take`. */
  copyOut(linear: number, target: Uint8Array): void {
    const start = linear - this.#shared.linear;
    target.set(this.#sharedView.subarray(start, start + target.byteLength));
  }

  /**
   * Gives back everything that no view of the application can reach. The device must have been reset or closed: a device
   * that still writes would write into files that nobody reads.
   */
  close(): void {
    for (const fd of this.#fds.splice(0)) closeSync(fd);
    if (this.#arena && this.#arenaTop > this.#arena.linear) this.aperture.unmap(this.#shared);
    else this.aperture.close();
  }

  #mapFile(name: string, bytes: number): Window {
    const fd = loadAddon().memfd(name, bytes, true);
    this.#fds.push(fd);
    return this.aperture.map({ fd, offset: 0n }, bytes, 'rw');
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
