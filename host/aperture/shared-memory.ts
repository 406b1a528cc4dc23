import { inspect } from 'node:util';
import { PAGE_SIZE } from '../../assembly/layout.js';
import { RingbellError } from '../errors.js';
import { loadAddon } from '../native/addon.js';
import { APERTURE_MAX_BYTES, Aperture } from './aperture.js';

/** Bytes; unit of WebAssembly.Memory, and so of an aperture. */
const APERTURE_UNIT = 65536;

/**
 * Memory that can be shown to a device: a sealed memory file, mapped in one piece. vhost-vdpa passes over anonymous memory
 * without a word (vhost_vdpa_va_map), so that a buffer of JavaScript's own will not do.
 */
export class SharedMemory {
  /** Process address of the first byte: what a MemoryRegion names. */
  readonly address: bigint;
  /** The memory itself. It is there for as long as this can be reached, closed or not. */
  readonly bytes: Uint8Array;
  /** The memory file, for others to map; the object's to close. */
  readonly fd: number;
  readonly #aperture: Aperture;
  #closed = false;

  /** Makes so many bytes of it, zeroed and rounded up to whole pages. Throws ERR_ARGUMENT for none, or more than 3 GiB. */
  static create(bytes: number): SharedMemory {
    if (!Number.isSafeInteger(bytes) || bytes < 1 || bytes > 3 * 2 ** 30)
      throw new RingbellError('ERR_ARGUMENT', `shared memory has 1 byte to 3 GiB, not ${inspect(bytes)}`);
    return new SharedMemory(Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE);
  }

  private constructor(bytes: number) {
    // An aperture has a private part of a page at least, and keeps its last page inaccessible.
    const whole = Math.ceil((bytes + 2 * PAGE_SIZE) / APERTURE_UNIT) * APERTURE_UNIT;
    this.#aperture = Aperture.create({ bytes: Math.min(whole, APERTURE_MAX_BYTES), privateBytes: PAGE_SIZE });
    this.fd = loadAddon().memfd('shared-memory', bytes, true);
    try {
      const window = this.#aperture.map({ fd: this.fd, offset: 0n }, bytes, 'rw');
      this.bytes = this.#aperture.viewOwn(window);
      this.address = this.#aperture.address + BigInt(window.linear);
    } catch (error) {
      loadAddon().close(this.fd);
      this.#aperture.close();
      throw error;
    }
  }

  /** Closes the file: no device of a bus can be given the memory from now on. Those that have it keep it. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#aperture.leave();
    loadAddon().close(this.fd);
  }

  [inspect.custom](): string {
    return `SharedMemory { ${this.bytes.byteLength} bytes at 0x${this.address.toString(16)}${this.#closed ? ', closed' : ''} }`;
  }
}
