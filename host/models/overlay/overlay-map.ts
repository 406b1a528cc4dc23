import { RingbellError } from '../../errors.js';
import { SharedJob } from '../../shared-job.js';
import type { OverlayFile } from './overlay-file.js';
import {
  FLUSHED_SHIFT,
  HEADER_SIZE,
  STATE_BASE,
  STATE_DATA,
  STATE_MASK,
  STATE_ZERO,
} from './overlay-format.js';

/** Bytes of the map that are written at a time: a page, so that none is ever half there. */
const PAGE_SIZE = 4096;

/**
 * The map of an overlay, in memory and in its file. A cluster's state is set when its bytes have been written; it is in the
 * file's page cache before the request is answered, so that the end of the process takes nothing away. But pages reach the
 * storage in any order: after a power loss the state could be there and the bytes not. So what was flushed is noted beside it,
 * in the upper half of a byte, and only when a datasync has come between; after a boot that is what counts.
 */
export class OverlayMap {
  readonly #file: OverlayFile;
  readonly #bytes: Uint8Array;
  /** Clusters whose state is not as it was flushed. */
  readonly #unflushed = new Set<number>();
  /** Pages that are not in the file as they are in memory. */
  #pages = new Set<number>();
  readonly #writing = new SharedJob(() => this.#writePages());
  readonly #flushing = new SharedJob(() => this.#flush());
  /** What has kept something from being flushed: the kernel tells of it once, and then forgets. */
  #failure: { error: unknown } | undefined;

  /** Over the bytes of a map, which have been judged. */
  constructor(file: OverlayFile, bytes: Uint8Array) {
    this.#file = file;
    this.#bytes = bytes;
    for (let cluster = 0; cluster < bytes.length; cluster++)
      if (this.state(cluster) !== bytes[cluster]! >> FLUSHED_SHIFT) this.#unflushed.add(cluster);
  }

  /** STATE_* of a cluster. */
  state(cluster: number): number {
    return this.#bytes[cluster]! & STATE_MASK;
  }

  /** First cluster in [from, end) that is not in the state of `from`; `end` if all are. */
  endOfRun(from: number, end: number): number {
    const state = this.state(from);
    let cluster = from + 1;
    while (cluster < end && this.state(cluster) === state) cluster++;
    return cluster;
  }

  /** Sets the state of the clusters in [first, end): what they are to read as has been written. `save` makes it known. */
  set(first: number, end: number, state: number): void {
    for (let cluster = first; cluster < end; cluster++) {
      const flushed = this.#bytes[cluster]! >> FLUSHED_SHIFT;
      this.#bytes[cluster] = (flushed << FLUSHED_SHIFT) | state;
      if (flushed === state) this.#unflushed.delete(cluster);
      else this.#unflushed.add(cluster);
      this.#pages.add(Math.floor(cluster / PAGE_SIZE));
    }
  }

  /** Resolves when all states that have been set are in the page cache. */
  save(): Promise<void> {
    return this.#writing.run();
  }

  /** Resolves when all that has been written and set before this call is durable. Once that has failed, it always does. */
  flush(): Promise<void> {
    return this.#flushing.run();
  }

  async #flush(): Promise<void> {
    if (this.#failure) throw this.#failure.error;
    const states = [...this.#unflushed].map((cluster) => [cluster, this.state(cluster)] as const);
    try {
      // The bytes first: no state may be taken for flushed whose bytes are not.
      await this.#file.datasync();
      if (states.length === 0) return;
      for (const [cluster, state] of states) {
        const now = this.state(cluster);
        this.#bytes[cluster] = (state << FLUSHED_SHIFT) | now;
        // It may have been set again meanwhile.
        if (now === state) this.#unflushed.delete(cluster);
        else this.#unflushed.add(cluster);
        this.#pages.add(Math.floor(cluster / PAGE_SIZE));
      }
      await this.#writing.run();
      await this.#file.datasync();
    } catch (error) {
      this.#failure = { error };
      throw error;
    }
  }

  async #writePages(): Promise<void> {
    const pages = this.#pages;
    this.#pages = new Set();
    try {
      for (const page of pages) {
        const start = page * PAGE_SIZE;
        await this.#file.write(this.#bytes.subarray(start, start + PAGE_SIZE), HEADER_SIZE + start);
      }
    } catch (error) {
      for (const page of pages) this.#pages.add(page);
      throw error;
    }
  }
}

/** Judges the bytes of a map; `path` is for the message. Throws ERR_OVERLAY_FILE. */
export function checkMap(bytes: Uint8Array, path: string): void {
  const isSound = (state: number) => state === STATE_BASE || state === STATE_DATA || state === STATE_ZERO;
  const cluster = bytes.findIndex((byte) => !isSound(byte & STATE_MASK) || !isSound(byte >> FLUSHED_SHIFT));
  if (cluster >= 0)
    throw new RingbellError(
      'ERR_OVERLAY_FILE',
      `${path} is damaged: its map has 0x${bytes[cluster]!.toString(16)} for cluster ${cluster}`,
    );
}

/** Takes back what was not flushed: whether there was anything. */
export function forgetUnflushed(bytes: Uint8Array): boolean {
  let changed = false;
  for (let cluster = 0; cluster < bytes.length; cluster++) {
    const flushed = bytes[cluster]! >> FLUSHED_SHIFT;
    const byte = (flushed << FLUSHED_SHIFT) | flushed;
    if (bytes[cluster] !== byte) changed = true;
    bytes[cluster] = byte;
  }
  return changed;
}
