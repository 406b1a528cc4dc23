import { loadAddon } from '../native/addon.js';

/** A counted reference to the file behind a mapping: the kernel's struct vdpa_map_file. */
export class MapFile {
  /** A descriptor of the bus's own: the driver may close its own while the mapping lasts. */
  readonly fd: number;
  #references = 1;

  /** A first reference to the file behind `fd`. */
  static open(fd: number): MapFile {
    return new MapFile(loadAddon().duplicate(fd));
  }

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** One more reference. */
  get(): this {
    this.#references++;
    return this;
  }

  /** One reference less; the last one closes the file. */
  put(): void {
    if (--this.#references === 0) loadAddon().close(this.fd);
  }
}
