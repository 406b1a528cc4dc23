import {
  NOTIFY_DUE,
  REQUEST_READABLE_BYTES,
  REQUEST_WRITABLE_BYTES,
  VQ_MISS,
} from '../../assembly/layout.js';
import type { QueueBlock } from '../queue/queue-block.js';
import { Chain } from './chain.js';
import type { ModelQueue } from './model-queue.js';
import { PIECE_BYTES, type QueueMemory } from './queue-memory.js';

/** What `give` answers where the driver's memory is not mapped (any more), and the chain is to be given back again. */
export const MISSED = -1;
/** What it answers where the bytes of the chain are gone, and `takeLost` has it. */
export const LOST = -2;

/**
 * Chains that are too long to go in bursts: taken and given back one by one, their bytes in memory of JavaScript's own, moved
 * piece by piece.
 */
export class LongChains {
  readonly #block: QueueBlock;
  readonly #memory: QueueMemory;
  readonly #chainBytes: number;
  readonly #free: number[];
  /** Chains whose bytes were found missing inside the gate: looked after outside of it, where code that is not ours may run. */
  #lost: Chain[] = [];
  /** The next chain on the ring is long, and there is no block for it. */
  #waiting = false;
  #crossings = 0;

  /** Longer chains than `chainBytes` are answered without the model. */
  constructor(block: QueueBlock, memory: QueueMemory, chainBytes: number) {
    this.#block = block;
    this.#memory = memory;
    this.#chainBytes = chainBytes;
    const { linear, bytes, count } = memory.longBlocks;
    this.#free = Array.from({ length: count }, (_, index) => linear + index * bytes);
  }

  /** Nothing can be taken until one has been given back. */
  get full(): boolean {
    return this.#waiting && this.#free.length === 0;
  }

  /** Calls into WASM since the last look. */
  takeCrossings(): number {
    const crossings = this.#crossings;
    this.#crossings = 0;
    return crossings;
  }

  /** Chains whose bytes the model has transferred away after it had completed them. */
  takeLost(): Chain[] {
    const lost = this.#lost;
    this.#lost = [];
    return lost;
  }

  /** Takes the next chain for `queue`, which is longer than a block: undefined if there is no room, or it was refused. */
  take(queue: ModelQueue, life: number, epoch: number): Chain | undefined {
    const { aperture, vq } = this.#block;
    const request = this.#free.at(-1);
    this.#waiting = request === undefined;
    if (request === undefined) return undefined;
    this.#crossings++;
    if (aperture.engine.requestTake(vq, request) === 0) return undefined;
    this.#free.pop();
    const readableBytes = aperture.u32[(request + REQUEST_READABLE_BYTES) >>> 2]!;
    const writableBytes = aperture.u32[(request + REQUEST_WRITABLE_BYTES) >>> 2]!;
    const tooLong = readableBytes + writableBytes > this.#chainBytes;
    const readable = new Uint8Array(tooLong ? 0 : readableBytes);
    for (let moved = 0; moved < readable.length; moved += PIECE_BYTES) this.#copyIn(request, readable, moved);
    const chain = new Chain(queue, request, life, epoch, readable);
    if (tooLong) chain.failTooLong();
    return chain;
  }

  /** Gives a chain back and publishes it: NOTIFY_DUE or 0; MISSED, LOST. */
  give(chain: Chain): number {
    const { aperture, vq } = this.#block;
    const { engine } = aperture;
    if (chain.stale) return 0;
    if (chain.written > 0 && chain.detached) {
      this.#lost.push(chain);
      return LOST;
    }
    const { request, written, status, writableBytes } = chain;
    for (let moved = 0; moved < written && !this.#missing(); moved += PIECE_BYTES) {
      const piece = chain.writableView.subarray(moved, Math.min(moved + PIECE_BYTES, written));
      this.#copyOut(request, piece, moved);
    }
    if (status.length > 0 && !this.#missing()) this.#copyOut(request, status, writableBytes - status.length);
    if (this.#missing()) return MISSED;
    this.#crossings += 2;
    engine.requestFinish(vq, request, written + status.length);
    return engine.requestPublish(vq, 1) & NOTIFY_DUE;
  }

  /** Frees the block of a chain. */
  release(chain: Chain): void {
    this.#waiting = false;
    this.#free.push(chain.request);
  }

  /** All of the chain was mapped when it was taken, inside the same gate. */
  #copyIn(request: number, to: Uint8Array, moved: number): void {
    const { aperture, vq } = this.#block;
    const { piece } = this.#memory;
    const bytes = Math.min(to.length - moved, PIECE_BYTES);
    this.#crossings++;
    aperture.engine.requestRead(vq, request, moved, piece, bytes);
    to.set(aperture.u8.subarray(piece, piece + bytes), moved);
  }

  #copyOut(request: number, from: Uint8Array, offset: number): void {
    const { aperture, vq } = this.#block;
    const { piece } = this.#memory;
    aperture.u8.set(from, piece);
    this.#crossings++;
    aperture.engine.requestWrite(vq, request, offset, piece, from.length);
  }

  #missing(): boolean {
    return this.#block.aperture.u32[(this.#block.vq + VQ_MISS) >>> 2] !== 0;
  }
}
