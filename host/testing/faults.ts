import { RingbellError } from '../errors.js';
import type { Chain } from '../models/chain.js';
import { SeededRandom } from './random.js';

/** What can go wrong with a chain. */
export type FaultKind = 'delay' | 'error' | 'reorder' | 'drop' | 'wrongLength';

/** How often each fault happens: the probability that a chain has it, together at most 1; 0 if left out. */
export type FaultRates = Partial<Record<FaultKind, number>>;

/** Which faults a model has. */
export interface FaultyOptions extends FaultRates {
  /** What the faults follow from: the same chains have the same ones for the same seed. 1 if left out. */
  seed?: number;
  /** Milliseconds of a delay, and the most that a chain waits for another one to overtake it; 10 if left out. */
  delayMs?: number;
  /** Which chains may have faults; all if left out. */
  when?: (chain: Chain) => boolean;
}

/** Kinds in the order in which they share the range of probabilities. */
const KINDS: readonly FaultKind[] = ['delay', 'error', 'reorder', 'drop', 'wrongLength'];
const DELAY_MS = 10;
const NO_BYTES = new Uint8Array(0);

/** A chain that its model has ended, and that has not gone back. */
interface Held {
  readonly kind: FaultKind;
  readonly give: () => void;
  timer: NodeJS.Timeout | undefined;
}

/** Faults of a model, which can be changed while it is served. */
export class Faults {
  /** Chains that had each fault. */
  readonly injected: Record<FaultKind, number> = { delay: 0, error: 0, reorder: 0, drop: 0, wrongLength: 0 };
  readonly #random: SeededRandom;
  readonly #delayMs: number;
  readonly #when: (chain: Chain) => boolean;
  #rates: FaultRates = {};
  /** Faults of the chains that come next, before the rates count. */
  readonly #next: FaultKind[] = [];
  readonly #decided = new WeakMap<Chain, FaultKind>();
  readonly #held = new Set<Held>();

  /** Throws ERR_ARGUMENT for probabilities that are none, or are more than 1 together. @internal */
  constructor({ seed = 1, delayMs = DELAY_MS, when = () => true, ...rates }: FaultyOptions) {
    this.#random = new SeededRandom(seed);
    this.#delayMs = delayMs;
    this.#when = when;
    this.set(rates);
  }

  /** Chains that are kept back now. */
  get held(): number {
    return this.#held.size;
  }

  /** Has the chains that come next have these faults, one each, before the rates count. */
  next(...kinds: FaultKind[]): void {
    for (const kind of kinds) if (!KINDS.includes(kind)) throw argumentError(`there is no fault '${kind}'`);
    this.#next.push(...kinds);
  }

  /** Changes how often each fault happens, from the next chain on; those that are left out do not. Throws ERR_ARGUMENT. */
  set(rates: FaultRates): void {
    for (const [kind, rate] of Object.entries(rates)) {
      if (!KINDS.includes(kind as FaultKind)) throw argumentError(`there is no fault '${kind}'`);
      if (!(rate >= 0 && rate <= 1)) throw argumentError(`${kind} is a probability, not ${rate}`);
    }
    const sum = KINDS.reduce((total, kind) => total + (rates[kind] ?? 0), 0);
    // Rates such as 0.1 and 0.2 do not add up exactly.
    if (sum > 1 + Number.EPSILON * KINDS.length) throw argumentError(`the probabilities add up to ${sum}`);
    this.#rates = { ...rates };
  }

  /** Lets all chains go that are kept back, those that were dropped, too. */
  release(): void {
    for (const held of [...this.#held]) this.#give(held);
  }

  /** @internal */
  taken(chain: Chain): void {
    if (!this.#when(chain)) return;
    const kind = this.#next.shift() ?? this.#draw();
    if (kind) this.#decided.set(chain, kind);
  }

  /** @internal */
  ended(chain: Chain, give: () => void): void {
    const kind = this.#decided.get(chain);
    // What nobody sees has no fault.
    if (!kind || chain.stale) {
      this.#pass(give);
      return;
    }
    this.injected[kind]++;
    if (kind === 'error') {
      chain.amend(0, chain.queue.errorStatus(chain.writableBytes) ?? NO_BYTES);
      chain.queue.countError();
    } else if (kind === 'wrongLength') this.#misstate(chain);
    else {
      this.#hold(kind, chain, give);
      return;
    }
    this.#pass(give);
  }

  #draw(): FaultKind | undefined {
    let rest = this.#random.next();
    for (const kind of KINDS) {
      rest -= this.#rates[kind] ?? 0;
      if (rest < 0) return kind;
    }
    return undefined;
  }

  /** Gives a chain back, and after it those that it was to overtake. */
  #pass(give: () => void): void {
    give();
    for (const held of [...this.#held]) if (held.kind === 'reorder') this.#give(held);
  }

  #hold(kind: FaultKind, chain: Chain, give: () => void): void {
    const held: Held = { kind, give, timer: undefined };
    if (kind !== 'drop') held.timer = setTimeout(() => this.#give(held), this.#delayMs);
    this.#held.add(held);
    // At a reset the chain is stale: it has to be ended all the same.
    chain.signal.addEventListener('abort', () => this.#give(held), { once: true });
  }

  #give(held: Held): void {
    if (!this.#held.delete(held)) return;
    clearTimeout(held.timer);
    held.give();
  }

  /** Another number of bytes than the model has written: fewer, or more where there is room. */
  #misstate(chain: Chain): void {
    const { written, status } = chain;
    const room = chain.writableBytes - status.length;
    const other = this.#random.integer(0, Math.max(room - 1, 0));
    // Without room for another number there is only the status to leave out.
    if (room === 0) chain.amend(0, NO_BYTES);
    else chain.amend(other < written ? other : other + 1, status);
  }
}

function argumentError(message: string): RingbellError {
  return new RingbellError('ERR_ARGUMENT', message);
}
