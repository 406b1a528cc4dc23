import {
  COUNT_MASK,
  GIVE_REQUEST,
  GIVE_SIZE,
  GIVE_STATUS,
  GIVE_WRITTEN,
  LONG_DUE,
  NOTIFY_DUE,
  TAKE_SIZE,
  VERDICT_REQUEST,
  VQ_BYTES_READ,
  VQ_BYTES_WRITTEN,
  VQ_CROSSINGS,
  VQ_EPOCH,
  VQ_IO_ERRORS,
  VQ_MISS,
} from '../../assembly/layout.js';
import type { Aperture } from '../aperture/aperture.js';
import type { QueueBlock } from '../queue/queue-block.js';
import type { LoopDatapath } from '../queue/queue-loop.js';
import { count } from '../queue/queue-stats.js';
import { Chain } from './chain.js';
import type { ChainWatch } from './chain-watch.js';
import { LOST, LongChains, MISSED } from './long-chains.js';
import { type Limits, limitsOf } from './manifest.js';
import type { LoopHooks } from './model.js';
import type { ModelHost } from './model-host.js';
import { BURST, type QueueMemory } from './queue-memory.js';

/**
 * One virtqueue of a device model. Inside the gate chains are taken and given back in bursts, and their bytes moved by WASM;
 * outside of it the model's code runs.
 */
export class ModelQueue implements LoopDatapath {
  /** Its index in the device. */
  readonly index: number;
  /** @internal */
  readonly aperture: Aperture;
  readonly #host: ModelHost;
  readonly #block: QueueBlock;
  readonly #memory: QueueMemory;
  readonly #hooks: LoopHooks;
  readonly #limits: Limits;
  readonly #watch: ChainWatch | undefined;
  readonly #long: LongChains;
  readonly #errorStatus: Uint8Array | undefined;
  /** Linear addresses of blocks that no chain holds, and how many have been used so far. */
  readonly #free: number[] = [];
  #blocksUsed = 0;
  /** Chains taken, for the model. */
  #taken: Chain[] = [];
  /** Chains to be given back, oldest first from #doneFirst on. */
  readonly #done: Chain[] = [];
  #doneFirst = 0;
  /** Chains taken and not yet given back or dropped, and the bytes of all of them. */
  #held = 0;
  #heldBytes = 0;
  /** The model wants no more for now; the model's code is running. */
  #holding = false;
  #settling = false;
  /** A chain that was no request. */
  #refused: Chain | undefined;
  #crossings = 0;
  /** Life of the device, and epoch of the queue, that the model knows of. */
  #life: number;
  #epoch: number;

  /** @internal */
  constructor(host: ModelHost, index: number, block: QueueBlock, memory: QueueMemory, hooks: LoopHooks) {
    this.index = index;
    this.aperture = block.aperture;
    this.#host = host;
    this.#block = block;
    this.#memory = memory;
    this.#hooks = hooks;
    this.#watch = host.surroundings.watch;
    this.#limits = limitsOf(host.model.manifest);
    this.#long = new LongChains(block, memory, this.#limits.chainBytes);
    const { errorStatus } = host.model;
    this.#errorStatus = typeof errorStatus === 'number' ? Uint8Array.of(errorStatus) : errorStatus;
    this.#life = host.lifeCount;
    this.#epoch = this.epoch;
  }

  /** Chains that the model has and has not ended. */
  get inHand(): number {
    return this.#held - (this.#done.length - this.#doneFirst);
  }

  /** Aborts when the driver resets the device. */
  get signal(): AbortSignal {
    return this.#host.life.signal;
  }

  /** Whether the feature of bit number `bit` was negotiated. */
  negotiated(bit: number): boolean {
    return this.#block.negotiated(bit);
  }

  /** Takes no more chains until `release`: what a driver offers waits on the ring. */
  hold(): void {
    this.#holding = true;
  }

  /** Takes chains again. */
  release(): void {
    this.#holding = false;
    this.#hooks.schedule();
  }

  /**
   * Calls `complete`, which ends chains of this queue, 64 at most: the driver sees all of them used at once, or none. So it never
   * sees a part of what lies in several, unless one of them is longer than `limits.bounceBytes` of the manifest.
   */
  together(complete: () => void): void {
    const first = this.#done.length;
    complete();
    for (let index = first; index < this.#done.length - 1; index++) this.#done[index]!.tied = true;
  }

  /** Adds to `bytesRead` and `bytesWritten` of the queue's statistics. */
  countBytes(read: number, written: number): void {
    if (read > 0) count(this.aperture, this.#block.vq, VQ_BYTES_READ, BigInt(read));
    if (written > 0) count(this.aperture, this.#block.vq, VQ_BYTES_WRITTEN, BigInt(written));
  }

  /** @internal */
  burst(): number {
    const { vq } = this.#block;
    const refused = this.#refused;
    this.#refused = undefined;
    // Its driver may have reset before this burst: the next one is not to blame.
    if (refused && !refused.stale) {
      this.aperture.engine.deviceBreak(vq, VERDICT_REQUEST);
      return 0;
    }
    const given = this.#give();
    const taken = this.#missing() ? 0 : this.#take();
    count(this.aperture, vq, VQ_CROSSINGS, BigInt(this.#crossings + this.#long.takeCrossings()));
    this.#crossings = 0;
    return ((given & COUNT_MASK) + taken) | (given & NOTIFY_DUE);
  }

  /** @internal */
  get saturated(): boolean {
    return this.#room() === 0;
  }

  /** @internal */
  settle(): void {
    this.#noticeReset();
    for (const chain of this.#long.takeLost()) {
      this.report(new TypeError('it transferred away the bytes of a chain that it has completed'));
      chain.lose();
      this.countError();
      this.#done.push(chain);
      this.#hooks.schedule();
    }
    if (this.#taken.length === 0) return;
    const chains = this.#taken;
    this.#taken = [];
    // A driver that has come since the last burst is announced before its first chain.
    this.#host.follow();
    this.#settling = true;
    if (this.#watch) for (const chain of chains) this.#watch.taken(chain);
    this.#handle(chains);
    this.#settling = false;
    if (this.#doneFirst < this.#done.length) this.#hooks.schedule();
  }

  /** @internal */
  get lifeCount(): number {
    return this.#host.lifeCount;
  }

  /** @internal */
  get epoch(): number {
    return this.aperture.u32[(this.#block.vq + VQ_EPOCH) >>> 2]!;
  }

  /** What a failed chain ends with, if it has room for it. @internal */
  errorStatus(writableBytes: number): Uint8Array | undefined {
    const status = this.#errorStatus;
    return status && status.length <= writableBytes ? status : undefined;
  }

  /** @internal */
  countError(): void {
    count(this.aperture, this.#block.vq, VQ_IO_ERRORS, 1n);
  }

  /** @internal */
  report(error: unknown): void {
    this.#hooks.failed(error);
  }

  /** The model has ended a chain. @internal */
  completed(chain: Chain): void {
    if (this.#watch) this.#watch.ended(chain, () => this.#goesBack(chain));
    else this.#goesBack(chain);
  }

  /** The model has found a chain that is no request. @internal */
  refused(chain: Chain): void {
    if (!chain.stale) this.#refused ??= chain;
    this.#release(chain);
    this.#hooks.schedule();
  }

  /** A model that holds chains of a queue that was reset alone ends them, and others can be taken. */
  #noticeReset(): void {
    const { lifeCount, epoch } = this;
    if (epoch === this.#epoch) return;
    // Of the device's reset the model hears otherwise; and a queue that starts for the first time has nothing to forget.
    const alone = lifeCount === this.#life && this.#held > 0;
    this.#life = lifeCount;
    this.#epoch = epoch;
    if (alone) this.#host.queueReset(this);
  }

  #goesBack(chain: Chain): void {
    this.#done.push(chain);
    if (!this.#settling) this.#hooks.schedule();
  }

  #missing(): boolean {
    return this.aperture.u32[(this.#block.vq + VQ_MISS) >>> 2] !== 0;
  }

  /** How many chains may be taken now. */
  #room(): number {
    const { inHandBytes } = this.#limits;
    if (this.#holding || this.#heldBytes >= inHandBytes || this.#long.full) return 0;
    return Math.min(BURST, this.#memory.blocks.count - this.#held);
  }

  #give(): number {
    let progress = 0;
    let notify = 0;
    while (progress < BURST && this.#doneFirst < this.#done.length) {
      const first = this.#done[this.#doneFirst]!;
      if (first.long) {
        const result = this.#long.give(first);
        if (result === MISSED) break;
        this.#doneFirst++;
        // One a burst: it may be as long as the limit allows.
        progress = BURST;
        if (result === LOST) continue;
        this.#given(first);
        notify |= result & NOTIFY_DUE;
        continue;
      }
      const offered = this.#fillGiveTable(BURST - progress);
      if (offered === 0) break;
      this.#crossings++;
      const result = this.aperture.engine.requestGiveBurst(this.#block.vq, this.#memory.giveTable, offered);
      const ended = result & COUNT_MASK;
      notify |= result & NOTIFY_DUE;
      for (let i = 0; i < ended; i++) this.#given(this.#done[this.#doneFirst + i]!);
      this.#doneFirst += ended;
      progress += ended;
      if (ended < offered) break;
    }
    if (this.#doneFirst === this.#done.length) {
      this.#done.length = 0;
      this.#doneFirst = 0;
    }
    return Math.min(progress, BURST) | notify;
  }

  #fillGiveTable(max: number): number {
    const words = this.aperture.u32;
    let word = this.#memory.giveTable >>> 2;
    let offered = 0;
    for (; offered < max; offered++) {
      const chain = this.#done[this.#doneFirst + offered];
      if (chain === undefined || chain.long) break;
      words[word + GIVE_REQUEST / 4] = chain.request;
      words[word + GIVE_WRITTEN / 4] = chain.written;
      words[word + GIVE_STATUS / 4] = chain.status.length;
      word += GIVE_SIZE / 4;
    }
    // Not a part of those that go together, unless that is all that there is.
    let whole = offered;
    while (whole > 0 && this.#done[this.#doneFirst + whole - 1]!.tied) whole--;
    return whole || (max === BURST ? offered : 0);
  }

  #take(): number {
    const { blocks, takeTable } = this.#memory;
    const room = this.#room();
    if (room === 0) return 0;
    for (; this.#free.length < room && this.#blocksUsed < blocks.count; this.#blocksUsed++)
      this.#free.push(blocks.linear + this.#blocksUsed * blocks.bytes);
    const words = this.aperture.u32;
    const top = this.#free.length - 1;
    const offered = Math.min(room, this.#free.length);
    for (let i = 0; i < offered; i++) words[(takeTable + i * TAKE_SIZE) >>> 2] = this.#free[top - i]!;
    this.#crossings++;
    const result = this.aperture.engine.requestTakeBurst(this.#block.vq, takeTable, offered, blocks.bytes);
    const taken = result & COUNT_MASK;
    const { lifeCount, epoch } = this;
    for (let i = 0; i < taken; i++) this.#took(new Chain(this, this.#free.pop()!, lifeCount, epoch));
    if (!(result & LONG_DUE)) return taken;
    const chain = this.#long.take(this, lifeCount, epoch);
    if (!chain) return taken;
    this.#took(chain);
    return taken + 1;
  }

  #took(chain: Chain): void {
    this.#held++;
    this.#heldBytes += chain.readableBytes + chain.writableBytes;
    if (chain.open) this.#taken.push(chain);
    if (this.#block.latency.due()) {
      this.#block.latency.begin();
      chain.takenAt = performance.now();
    }
  }

  #given(chain: Chain): void {
    if (chain.takenAt > 0) this.#block.latency.record(performance.now() - chain.takenAt, 1);
    this.#release(chain);
  }

  /** Frees what a chain held. */
  #release(chain: Chain): void {
    this.#held--;
    this.#heldBytes -= chain.readableBytes + chain.writableBytes;
    if (chain.long) {
      this.#long.release(chain);
      return;
    }
    this.#free.push(chain.request);
  }

  #handle(chains: Chain[]): void {
    // A reset may have come before the model has seen them.
    if (chains[0]!.stale) {
      for (const chain of chains) chain.complete();
      return;
    }
    try {
      const ended = this.#host.model.handle(chains, this);
      if (ended !== undefined) Promise.resolve(ended).catch((error) => this.#failed(chains, error));
    } catch (error) {
      this.#failed(chains, error);
    }
  }

  /** The model's handler has failed: so have those of its chains that it has not ended. */
  #failed(chains: readonly Chain[], error: unknown): void {
    // What fails because its driver has gone is nobody's affair.
    if (chains[0]!.stale) {
      for (const chain of chains) if (chain.open) chain.complete();
      return;
    }
    this.report(error);
    for (const chain of chains) chain.failQuietly();
  }
}
