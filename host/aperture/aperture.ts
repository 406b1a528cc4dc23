import { inspect } from 'node:util';
import { CACHE_LINE, PAGE_SIZE } from '../../assembly/layout.js';
import { RingbellError } from '../errors.js';
import { type Addon, loadAddon, type MapSource, type Protection } from '../native/addon.js';
import { addressSpace } from './address-space.js';
import { type Engine, instantiateEngine } from './engine.js';
import { RangeAllocator } from './range-allocator.js';
import { Memory } from './web-assembly.js';

/** Bytes; unit of WebAssembly.Memory limits. */
const WASM_PAGE_SIZE = 65536;
/** Bytes; what 32-bit linear addresses reach. */
export const APERTURE_MAX_BYTES = 2 ** 32;

export interface ApertureOptions {
  /** Bytes of address space, at most 4 GiB; only touched pages cost memory. */
  bytes?: number;
  /** Bytes at the bottom for the engine's own structures and for buffers that JavaScript may touch. */
  privateBytes?: number;
}

/** What another thread needs to use the same aperture: give it to a worker as workerData. */
export interface ApertureHandle {
  memory: Memory;
  privateBytes: number;
  /** Linear range that the receiver may cut windows from. */
  windows: { start: number; end: number };
}

/** A mapping of a file into the aperture. */
export interface Window {
  /** Linear address of the first byte. */
  readonly linear: number;
  /** Bytes: a multiple of PAGE_SIZE. */
  readonly bytes: number;
}

/**
 * One shared, fixed-size WebAssembly.Memory onto which files are mapped. From the bottom: an inaccessible page, so that
 * address 0 traps; the private part, ordinary memory that only this process sees; the window part, inaccessible except
 * where a window lies. JavaScript may touch the private part through `i32`, `u8` and `data`, and nothing else: an access
 * from JavaScript to a window that has gone kills the process, where one from WASM is a trap.
 */
export class Aperture {
  readonly memory: Memory;
  /** Bytes of the whole aperture. */
  readonly bytes: number;
  readonly privateBytes: number;
  /** Process address of linear address 0. */
  readonly address: bigint;
  /** The private part, for Atomics. */
  readonly i32: Int32Array;
  readonly u32: Uint32Array;
  readonly u64: BigUint64Array;
  readonly u8: Uint8Array;
  readonly data: DataView;
  /** The engine on this aperture, for the calling thread. */
  readonly engine: Engine;
  readonly #whole: Uint8Array;
  readonly #windows: RangeAllocator;
  readonly #owner: boolean;
  #privateTop = PAGE_SIZE;
  #closed = false;

  /** Reserves a new aperture. */
  static create(options: ApertureOptions = {}): Aperture {
    const bytes = options.bytes ?? 2 ** 30;
    const privateBytes = options.privateBytes ?? 2 ** 24;
    if (bytes % WASM_PAGE_SIZE || bytes > APERTURE_MAX_BYTES || bytes < WASM_PAGE_SIZE)
      throw new RingbellError(
        'ERR_ARGUMENT',
        `an aperture has a multiple of 65536 bytes up to 4 GiB, not ${bytes}`,
      );
    if (privateBytes % PAGE_SIZE || privateBytes >= bytes)
      throw new RingbellError(
        'ERR_ARGUMENT',
        `the private part must be whole pages and smaller than the aperture`,
      );
    const pages = bytes / WASM_PAGE_SIZE;
    const memory = new Memory({ initial: pages, maximum: pages, shared: true });
    // The last page stays inaccessible: linear address plus length never passes 2^32.
    const handle = { memory, privateBytes, windows: { start: privateBytes, end: bytes - PAGE_SIZE } };
    return new Aperture(handle, true);
  }

  /** The aperture of another thread, from what its `share` gave. */
  static adopt(handle: ApertureHandle): Aperture {
    return new Aperture(handle, false);
  }

  private constructor(handle: ApertureHandle, owner: boolean) {
    const buffer = handle.memory.buffer;
    const addon = loadAddon();
    this.memory = handle.memory;
    this.bytes = buffer.byteLength;
    this.privateBytes = handle.privateBytes;
    this.#whole = new Uint8Array(buffer);
    this.#owner = owner;
    this.address = addon.address(this.#whole);
    if (owner) {
      addon.reserve(this.#whole, 0, PAGE_SIZE);
      addon.reserve(this.#whole, handle.privateBytes, this.bytes - handle.privateBytes);
    }
    this.i32 = new Int32Array(buffer, 0, handle.privateBytes / 4);
    this.u32 = new Uint32Array(buffer, 0, handle.privateBytes / 4);
    this.u64 = new BigUint64Array(buffer, 0, handle.privateBytes / 8);
    this.u8 = new Uint8Array(buffer, 0, handle.privateBytes);
    this.data = new DataView(buffer, 0, handle.privateBytes);
    this.#windows = new RangeAllocator(handle.windows.start, handle.windows.end, PAGE_SIZE);
    this.engine = instantiateEngine(handle.memory);
  }

  /** Zeroed private memory for a structure: its linear address. Never given back before the aperture is. */
  allocate(bytes: number, align: number = CACHE_LINE): number {
    const linear = Math.ceil(this.#privateTop / align) * align;
    if (linear + bytes > this.privateBytes)
      throw new RingbellError(
        'ERR_APERTURE_FULL',
        `no room for ${bytes} bytes in a private part of ${this.privateBytes}`,
      );
    this.#privateTop = linear + bytes;
    return linear;
  }

  /** Cuts `bytes` of window space off, for another thread's use: what its `adopt` takes. */
  share(bytes: number): ApertureHandle {
    const start = this.#windows.allocate(bytes);
    return { memory: this.memory, privateBytes: this.privateBytes, windows: { start, end: start + bytes } };
  }

  /** Maps a file range at a place of the allocator's choice. `bytes` is rounded up to whole pages. */
  map(source: MapSource, bytes: number, protection: Protection): Window {
    const length = Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;
    const linear = this.#windows.allocate(length);
    try {
      this.mapAt(linear, source, length, protection);
    } catch (error) {
      this.#windows.free(linear, length);
      throw error;
    }
    return { linear, bytes: length };
  }

  /** Reserves room for a window without mapping anything there; `mapAt` and `unmap` fill and free it. */
  reserveWindow(bytes: number): Window {
    const length = Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;
    return { linear: this.#windows.allocate(length), bytes: length };
  }

  /** Maps a file range over reserved space. */
  mapAt(linear: number, source: MapSource, bytes: number, protection: Protection): void {
    this.#open();
    loadAddon().map(this.#whole, linear, bytes, source, protection);
    addressSpace.add(this.address + BigInt(linear), bytes, source);
  }

  /** Makes a window inaccessible and its room free again. No thread may be using it. */
  unmap(window: Window): void {
    if (this.#closed) return;
    loadAddon().unmap(this.#whole, window.linear, window.bytes);
    addressSpace.remove(this.address + BigInt(window.linear), window.bytes);
    this.#windows.free(window.linear, window.bytes);
  }

  protect(window: Window, protection: Protection): void {
    this.#open();
    loadAddon().protect(this.#whole, window.linear, window.bytes, protection);
  }

  /** From now on truncated files break this aperture's device instead of the process; `flag`: linear of an i32 counter. */
  guardSigbus(flag: number): void {
    this.#open();
    loadAddon().guardSigbus(this.#whole, flag);
  }

  /** A function that carries out the first `count` entries of the I/O table (IO_*) at `table`: how many failed. */
  prepareFileIo(fd: number, table: number): (count: number) => number {
    return loadAddon().prepareFileIo(this.#whole, fd, table);
  }

  /**
   * A view of a window of memory that is ours alone to unmap: a driver's own memory, never a region that another side
   * gave us. The window must then stay for as long as the aperture: the view outlives any bookkeeping.
   */
  viewOwn(window: Window): Uint8Array {
    return new Uint8Array(this.memory.buffer, window.linear, window.bytes);
  }

  /** Gives every window back, if this is the aperture that `create` made. Views from `viewOwn` must not be used afterwards. */
  close(): void {
    this.#close((addon) => addon.release(this.#whole));
  }

  /**
   * Closes with every window where it is, for as long as a view of the memory can be reached: for an application that was
   * given one. Windows of files that can shrink must have been unmapped: nothing catches a SIGBUS any more.
   */
  leave(): void {
    this.#close((addon) => addon.forget(this.#whole));
  }

  #close(giveUp: (addon: Addon) => void): void {
    if (this.#closed) return;
    this.#closed = true;
    addressSpace.remove(this.address, this.bytes);
    if (this.#owner) giveUp(loadAddon());
  }

  #open(): void {
    if (this.#closed) throw new RingbellError('ERR_CLOSED', 'the aperture is closed');
  }

  [inspect.custom](): string {
    return `Aperture { ${this.bytes / 2 ** 20} MiB at 0x${this.address.toString(16)}${this.#closed ? ', closed' : ''} }`;
  }
}
