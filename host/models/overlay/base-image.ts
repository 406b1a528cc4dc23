import { createHash } from 'node:crypto';
import { DiskStorage } from '../blk/disk-storage.js';
import { readFully } from './overlay-file.js';

/** Samples that the fingerprint is made of, and bytes of each. */
const SAMPLES = 64;
const SAMPLE_SIZE = 4096;

/** The disk under an overlay: a raw image or a block device of the host, which is only read. */
export class BaseImage {
  readonly #storage: DiskStorage;

  /** Throws ERR_ARGUMENT, with the reason, if it cannot be read. */
  static open(path: string): BaseImage {
    return new BaseImage(
      DiskStorage.inFile(path, { readOnly: true, direct: false, create: undefined, allocate: false }),
    );
  }

  private constructor(storage: DiskStorage) {
    this.#storage = storage;
  }

  get bytes(): number {
    return this.#storage.bytes;
  }

  /** Fills `into`, which is zeroed; behind the end there are zeroes. */
  async read(into: Uint8Array, position: number): Promise<void> {
    const bytes = Math.min(into.length, this.bytes - position);
    if (bytes > 0) await readFully(this.#storage.fd, into.subarray(0, bytes), position);
  }

  /**
   * SHA-256 of samples, spread evenly over the whole image, the first and the last block among them. It is the same for a copy of
   * the base, and another for any other disk that has something of its own there, such as a super block or a partition table.
   */
  async fingerprint(): Promise<Buffer> {
    const hash = createHash('sha256');
    const last = Math.max(Math.ceil(this.bytes / SAMPLE_SIZE) - 1, 0);
    for (let sample = 0; sample < SAMPLES; sample++) {
      const bytes = new Uint8Array(SAMPLE_SIZE);
      await this.read(bytes, Math.round((last * sample) / (SAMPLES - 1)) * SAMPLE_SIZE);
      hash.update(bytes);
    }
    return hash.digest();
  }

  close(): void {
    this.#storage.close();
  }
}
