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
import { type BounceSize, IovaDomain } from './iova-domain.js';

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
  /** Bytes that `takeCoherent` gives out. */
  coherentBytes: number;
  /** Bytes that `take` gives out. */
  bufferBytes: number;
  /** Bytes that `alloc` gives out. */
  arenaBytes: number;
  /** Bytes of structures that only this process sees. */
  privateBytes: number;
  /** Bytes of doorbell pages that may be mapped. */
  doorbellBytes: number;
  /** IOVAs that the device can be told of, `last` included. */
  iovaRange: { first: bigint; last: bigint };
  /** Bounce buffers that the device sees in place of what `take` and `alloc` give; undefined where it sees these. */
  bounce: BounceSize | undefined;
}

/**
 * All memory of one driver: an aperture with one sealed memory file mapped into it, in one piece, for the aperture's whole
 * life. First comes what the driver and the device share to do their work (rings, slots), then the driver's buffers, then
 * what the application allocates. One piece, so that a device that maps what it sees on first use has mapped everything
 * once it has found the rings. The file cannot shrink, and nobody else can unmap it: JavaScript may touch it.
 *
 * With bounce buffers the device sees none of it: what it shares with the driver then lies in an IOVA domain, a file of its own.
 */
export class DriverMemory {
  readonly aperture: Aperture;
  /** IOVA minus linear address, for all that the device sees, modulo 2^64. */
  readonly iovaDelta: bigint;
  /** Undefined where the device sees the driver's memory itself. */
  readonly domain: IovaDomain | undefined;
  readonly #fd: number;
  readonly #window: Window;
  readonly #view: Uint8Array;
  readonly #arenaStart: number;
  readonly #coherentEnd: number;
  #coherentTop: number;
  #bufferTop: number;
  #arenaTop: number;
  /** Linear address of the SIGBUS guard's counter. */
  readonly #lost: number;
  /** Linear address of an I/O table of one entry. */
  readonly #io: number;

  /** Throws ERR_ARGUMENT where it does not fit an aperture, ERR_NOT_SUPPORTED where it does not fit the IOVA range. */
  constructor(options: DriverMemoryOptions) {
    const { bounce, name } = options;
    const privateBytes = roundUp(
      options.privateBytes + (bounce ? IovaDomain.privateBytes(bounce) : 0) + PRIVATE_SLACK,
      APERTURE_UNIT,
    );
    const coherentBytes = roundUp(options.coherentBytes, PAGE_SIZE);
    const domainBytes = bounce ? coherentBytes + bounce.most : 0;
    const sharedBytes = roundUp((bounce ? 0 : coherentBytes) + options.bufferBytes, PAGE_SIZE);
    const bytes = sharedBytes + roundUp(options.arenaBytes, PAGE_SIZE);
    this.iovaDelta = chooseDelta(privateBytes, bounce ? domainBytes : bytes, options.iovaRange);
    this.aperture = Aperture.create({
      // One page more: an aperture keeps its last one inaccessible.
      bytes: roundUp(privateBytes + domainBytes + bytes + options.doorbellBytes + PAGE_SIZE, APERTURE_UNIT),
      privateBytes,
    });
    this.#lost = this.aperture.allocate(Int32Array.BYTES_PER_ELEMENT);
    this.#io = this.aperture.allocate(IO_SIZE);
    this.#fd = loadAddon().memfd(name, bytes, true);
    try {
      // The first window lies where the delta wants what the device sees.
      if (bounce) this.domain = new IovaDomain(this.aperture, `${name}.domain`, coherentBytes, bounce);
      this.#window = this.aperture.map({ fd: this.#fd, offset: 0n }, bytes, 'rw');
      // Our own file cannot shrink, but a doorbell page goes when its device is unplugged.
      this.aperture.guardSigbus(this.#lost);
    } catch (error) {
      this.domain?.close();
      loadAddon().close(this.#fd);
      this.aperture.close();
      throw error;
    }
    this.#view = this.aperture.viewOwn(this.#window);
    this.#coherentTop = (this.domain?.window ?? this.#window).linear;
    this.#coherentEnd = this.#coherentTop + coherentBytes;
    this.#bufferTop = this.domain ? this.#window.linear : this.#coherentEnd;
    this.#arenaStart = this.#arenaTop = this.#window.linear + sharedBytes;
  }

  /** What the device is to be told of before it starts. */
  get region(): IotlbRegion {
    const { domain } = this;
    return domain
      ? this.#region(domain.window.linear, domain.visibleBytes)
      : this.#region(this.#window.linear, this.#window.bytes);
  }

  /** Tells a device of the memory with `map`: of bounce buffers more and more, as they are needed. */
  async share(map: (region: IotlbRegion) => Promise<void>): Promise<void> {
    await map(this.region);
    this.domain?.growWith((linear, bytes) => map(this.#region(linear, bytes)));
  }

  /** Whether a page was lost under its mapping. */
  get lost(): boolean {
    return this.aperture.i32[this.#lost / 4] !== 0;
  }

  /** IOVA of a linear address in this memory. */
  iova(linear: number): bigint {
    return BigInt.asUintN(64, BigInt(linear) + this.iovaDelta);
  }

  /** Linear address of `bytes` zeroed bytes that the device sees for as long as the driver lives. */
  takeCoherent(bytes: number, align: number = CACHE_LINE): number {
    const linear = roundUp(this.#coherentTop, align);
    if (linear + bytes > this.#coherentEnd)
      throw new RingbellError('ERR_APERTURE_FULL', `no room for ${bytes} bytes of rings`);
    this.#coherentTop = linear + bytes;
    return linear;
  }

  /** Linear address of `bytes` zeroed bytes for data of the driver's requests. */
  take(bytes: number, align: number = CACHE_LINE): number {
    const linear = roundUp(this.#bufferTop, align);
    if (linear + bytes > this.#arenaStart)
      throw new RingbellError('ERR_APERTURE_FULL', `no room for ${bytes} bytes of buffers`);
    this.#bufferTop = linear + bytes;
    return linear;
  }

  /** Memory for the application that needs no copy by the driver. It stays valid for as long as it is reachable. Throws ERR_APERTURE_FULL. */
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
    this.domain?.close();
    if (this.#arenaTop > this.#arenaStart) {
      this.#releaseShared();
      this.aperture.leave();
    } else this.aperture.close();
    loadAddon().close(this.#fd);
  }

  #region(linear: number, bytes: number): IotlbRegion {
    return {
      iova: this.iova(linear),
      bytes: BigInt(bytes),
      address: this.aperture.address + BigInt(linear),
    };
  }

  /** Takes the driver's own part out of the mapping, and its pages out of the file. */
  #releaseShared(): void {
    const { aperture } = this;
    const bytes = this.#arenaStart - this.#window.linear;
    if (bytes === 0) return;
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
