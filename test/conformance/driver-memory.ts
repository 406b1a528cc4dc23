import { PAGE_SIZE } from '../../assembly/layout.js';
import { Aperture } from '../../host/aperture/aperture.js';
import { loadAddon } from '../../host/native/addon.js';

/** A piece of a driver's memory: pages of its memory file from page `page` on, or anonymous memory. */
export type MemoryPart = { page: number; pages: number } | { anonymous: number };

/** Memory of a driver that its device can be given. Each page of its file begins with the page's number. */
export class SharedMemory {
  /** Process address of the first part; the others follow. */
  readonly address: bigint;
  readonly #aperture: Aperture;
  readonly #fd: number;

  constructor(parts: readonly MemoryPart[]) {
    const addon = loadAddon();
    const sizes = parts.map((part) => ('page' in part ? part.pages : part.anonymous));
    const filePages = parts.reduce(
      (pages, part) => ('page' in part ? Math.max(pages, part.page + part.pages) : pages),
      1,
    );
    const pages = sizes.reduce((sum, size) => sum + size, 0);
    this.#aperture = Aperture.create({ bytes: 2 ** 24, privateBytes: 2 ** 16 });
    this.#fd = addon.memfd('conformance', filePages * PAGE_SIZE, true);
    const whole = this.#aperture.map({ fd: this.#fd, offset: 0n }, filePages * PAGE_SIZE, 'rw');
    for (let page = 0; page < filePages; page++) this.#aperture.viewOwn(whole)[page * PAGE_SIZE] = page;
    const { linear } = this.#aperture.reserveWindow(pages * PAGE_SIZE);
    let at = linear;
    for (const [index, part] of parts.entries()) {
      const bytes = sizes[index]! * PAGE_SIZE;
      if ('page' in part)
        this.#aperture.mapAt(at, { fd: this.#fd, offset: BigInt(part.page * PAGE_SIZE) }, bytes, 'rw');
      at += bytes;
    }
    this.address = this.#aperture.address + BigInt(linear);
  }

  /** Closes the file's descriptor; the memory stays. */
  closeFile(): void {
    loadAddon().close(this.#fd);
  }
}
