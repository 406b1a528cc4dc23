import { existsSync } from 'node:fs';
import { inspect } from 'node:util';
import { RingbellError } from '../../errors.js';
import { checkBoolean, checkInteger, checkOptions } from '../../options.js';
import { RangeLock } from '../../range-lock.js';
import { checkBlockSize, checkCapacity, encodeId } from '../blk/block-config.js';
import { BlockModel } from '../blk/block-model.js';
import { BaseImage } from './base-image.js';
import { makeOverlay, type OpenOverlay, openOverlay } from './open-overlay.js';
import type { OverlayFile } from './overlay-file.js';
import { dataOffsetOf, STATE_BASE, STATE_DATA, STATE_ZERO, whatIsImpossible } from './overlay-format.js';
import type { OverlayMap } from './overlay-map.js';

/** What an overlay is made of. */
export interface OverlayDiskOptions {
  /** Path of the overlay file; it is made if there is none. */
  file: string;
  /** Path of the base: a raw image, or a block device of the host. It is only read, and must not change. */
  base: string;
  /** Bytes of the disk when the file is made: the base's size if left out, at least that. What is behind the base is zero. */
  size?: number;
  /** Bytes that are copied from the base at a time, when the file is made: a power of two from 4096 to 2 MiB; 65,536 if left out. */
  clusterSize?: number;
  /** Refuse everything that changes the disk. The file must be there. */
  readOnly?: boolean;
  /** Bytes: 512 (default), 1024, 2048 or 4096. */
  blockSize?: number;
  /** What GET_ID answers; at most 20 bytes of UTF-8. */
  id?: string;
}

const OPTION_NAMES = ['file', 'base', 'size', 'clusterSize', 'readOnly', 'blockSize', 'id'];
const DEFAULT_CLUSTER_SIZE = 65536;

/**
 * A disk that begins as its base is, and keeps what is changed in a file of its own. Who has opened it closes it, after its
 * device.
 */
export class OverlayDisk extends BlockModel {
  readonly capacity: number;
  override readonly blockSize: number;
  override readonly readOnly: boolean;
  override readonly id: string;
  /** Bytes that are copied from the base at a time. */
  readonly clusterSize: number;
  readonly #path: string;
  readonly #base: BaseImage;
  readonly #file: OverlayFile;
  readonly #map: OverlayMap;
  /** Where cluster 0 is in the file. */
  readonly #dataOffset: number;
  /** What changes the same clusters is done in the order of the calls. */
  readonly #changes = new RangeLock();
  /** Calls that use the files. */
  #calls = 0;
  #idle: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  /**
   * Opens an overlay, or makes it. Rejects with ERR_ARGUMENT, ERR_OVERLAY_FILE for a file that is none, ERR_OVERLAY_BASE for a base
   * that is not the one that it was made over, a system error.
   */
  static async open(options: OverlayDiskOptions): Promise<OverlayDisk> {
    check(options);
    const { file, base: basePath, readOnly = false } = options;
    const base = BaseImage.open(basePath);
    try {
      if (!readOnly && !existsSync(file)) await make(options, base);
      const overlay = await openOverlay(file, base, readOnly);
      try {
        checkCapacity(overlay.header.diskBytes, options.blockSize ?? 512, `the size of ${file}`);
        return new OverlayDisk(options, base, overlay);
      } catch (error) {
        overlay.file.close();
        throw error;
      }
    } catch (error) {
      base.close();
      throw error;
    }
  }

  private constructor(options: OverlayDiskOptions, base: BaseImage, { file, header, map }: OpenOverlay) {
    super();
    this.capacity = header.diskBytes;
    this.blockSize = options.blockSize ?? 512;
    this.readOnly = options.readOnly ?? false;
    this.id = options.id ?? '';
    this.clusterSize = header.clusterSize;
    this.#path = options.file;
    this.#base = base;
    this.#file = file;
    this.#map = map;
    this.#dataOffset = dataOffsetOf(header);
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    return this.#call(() => this.#read(offset, into));
  }

  override write(offset: number, from: Uint8Array): Promise<void> {
    return this.#change(offset, from.length, () => this.#write(offset, from));
  }

  override flush(): Promise<void> {
    return this.#call(() => this.#map.flush());
  }

  /** The bytes read as zeroes then: the base does not show again. */
  override discard(offset: number, length: number): Promise<void> {
    return this.writeZeroes(offset, length, true);
  }

  override writeZeroes(offset: number, length: number, unmap: boolean): Promise<void> {
    return this.#change(offset, length, () => this.#writeZeroes(offset, length, unmap));
  }

  /**
   * Makes all durable, and closes the files when nothing uses them any more. Rejects with what keeps it from being durable; it is
   * closed all the same. Later calls wait too.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    if (this.#calls > 0)
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    try {
      if (!this.readOnly) await this.#map.flush();
    } finally {
      this.#file.close();
      this.#base.close();
    }
  }

  async #call<T>(call: () => Promise<T>): Promise<T> {
    if (this.#closing) throw new RingbellError('ERR_CLOSED', `${this.#path} is closed`);
    this.#calls++;
    try {
      return await call();
    } finally {
      if (--this.#calls === 0) this.#idle?.();
    }
  }

  #change(offset: number, length: number, change: () => Promise<void>): Promise<void> {
    const start = this.#clusterOf(offset);
    const end = this.#clusterOf(offset + length - 1) + 1;
    return this.#call(() => this.#changes.run(start, end, change));
  }

  /** `into` is zeroed. */
  async #read(offset: number, into: Uint8Array): Promise<void> {
    const parts: Promise<void>[] = [];
    for (const { state, start, end } of this.#runs(offset, into.length)) {
      const part = into.subarray(start - offset, end - offset);
      if (state === STATE_DATA) parts.push(this.#file.read(part, this.#dataOffset + start));
      if (state === STATE_BASE) parts.push(this.#base.read(part, start));
    }
    await Promise.all(parts);
  }

  /** Whoever calls it has the clusters to himself. */
  async #write(offset: number, from: Uint8Array): Promise<void> {
    let grown = false;
    for (const { state, start, end } of this.#runs(offset, from.length)) {
      const part = from.subarray(start - offset, end - offset);
      if (state === STATE_DATA) await this.#file.write(part, this.#dataOffset + start);
      else {
        const first = this.#clusterOf(start);
        const last = this.#clusterOf(end - 1);
        await this.#file.write(await this.#whole(start, part), this.#dataOffset + first * this.clusterSize);
        this.#map.set(first, last + 1, STATE_DATA);
        grown = true;
      }
    }
    if (grown) await this.#map.save();
  }

  /** A part of some clusters with what stands before and behind it in them. */
  async #whole(start: number, part: Uint8Array): Promise<Uint8Array> {
    const { clusterSize } = this;
    const from = this.#clusterOf(start) * clusterSize;
    const to = (this.#clusterOf(start + part.length - 1) + 1) * clusterSize;
    if (to - from === part.length) return part;
    const clusters = new Uint8Array(to - from);
    await this.#read(from, clusters.subarray(0, start - from));
    await this.#read(start + part.length, clusters.subarray(start - from + part.length));
    clusters.set(part, start - from);
    return clusters;
  }

  async #writeZeroes(offset: number, length: number, unmap: boolean): Promise<void> {
    const { clusterSize } = this;
    const holes: [position: number, bytes: number][] = [];
    let changed = false;
    for (const { state, start, end } of this.#runs(offset, length)) {
      if (state === STATE_ZERO) continue;
      // Clusters that are wholly in the range; the last of the disk may be cut off.
      const first = Math.ceil(start / clusterSize);
      const last = end === this.capacity ? this.#clusterOf(end - 1) + 1 : Math.floor(end / clusterSize);
      const wholeStart = Math.min(first * clusterSize, end);
      const wholeEnd = Math.min(Math.max(last * clusterSize, wholeStart), end);
      if (state === STATE_DATA && !unmap) {
        await this.#zero(start, end);
        continue;
      }
      if (start < wholeStart) await this.#write(start, new Uint8Array(wholeStart - start));
      if (wholeEnd < end) await this.#write(wholeEnd, new Uint8Array(end - wholeEnd));
      if (wholeStart === wholeEnd) continue;
      this.#map.set(first, last, STATE_ZERO);
      changed = true;
      if (state === STATE_DATA)
        holes.push([this.#dataOffset + first * clusterSize, (last - first) * clusterSize]);
    }
    if (changed) await this.#map.save();
    // Last: until the map says that they are zero, a process that ends here must find them.
    for (const [position, bytes] of holes) await this.#file.punch(position, bytes);
  }

  /** Writes zeroes, a cluster at a time. */
  async #zero(start: number, end: number): Promise<void> {
    const zeroes = new Uint8Array(Math.min(this.clusterSize, end - start));
    for (let at = start; at < end; at += zeroes.length)
      await this.#file.write(zeroes.subarray(0, Math.min(zeroes.length, end - at)), this.#dataOffset + at);
  }

  /** A range of the disk, cut where the states of its clusters change. */
  *#runs(offset: number, length: number): Iterable<{ state: number; start: number; end: number }> {
    const { clusterSize } = this;
    const end = offset + length;
    if (length === 0) return;
    const clusters = this.#clusterOf(end - 1) + 1;
    for (let cluster = this.#clusterOf(offset); cluster < clusters; ) {
      const next = this.#map.endOfRun(cluster, clusters);
      yield {
        state: this.#map.state(cluster),
        start: Math.max(cluster * clusterSize, offset),
        end: Math.min(next * clusterSize, end),
      };
      cluster = next;
    }
  }

  #clusterOf(offset: number): number {
    return Math.floor(offset / this.clusterSize);
  }

  override [inspect.custom](): string {
    return `OverlayDisk { ${this.#path}, ${this.capacity} bytes${this.readOnly ? ', read-only' : ''} }`;
  }
}

/** Judges options. Throws TypeError, ERR_ARGUMENT. */
function check(options: OverlayDiskOptions): void {
  checkOptions('OverlayDisk.open', options, OPTION_NAMES);
  for (const name of ['file', 'base'] as const)
    if (typeof options[name] !== 'string' || options[name] === '')
      throw new RingbellError('ERR_ARGUMENT', `${name} must be a path`);
  checkBoolean('readOnly', options.readOnly);
  checkBlockSize(options.blockSize ?? 512);
  checkInteger('size', options.size, 1, Number.MAX_SAFE_INTEGER);
  checkInteger('clusterSize', options.clusterSize, 1, Number.MAX_SAFE_INTEGER);
  encodeId(options.id ?? '');
}

/** Makes the file of an overlay. Rejects with ERR_ARGUMENT for what cannot be its size. */
async function make(options: OverlayDiskOptions, base: BaseImage): Promise<void> {
  const { file, size = base.bytes, blockSize = 512, clusterSize = DEFAULT_CLUSTER_SIZE } = options;
  checkCapacity(size, blockSize, options.size === undefined ? `the size of ${options.base}` : 'size');
  const geometry = { diskBytes: size, baseBytes: base.bytes, clusterSize };
  const why = whatIsImpossible(geometry);
  if (why !== undefined) throw new RingbellError('ERR_ARGUMENT', `${file} cannot be made: ${why}`);
  await makeOverlay(file, base, geometry);
}
