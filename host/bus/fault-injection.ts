import { setTimeout as delay } from 'node:timers/promises';
import { type ErrnoName, RingbellError, systemError } from '../errors.js';

/**
 * What a fault can strike: a system call of either face, a message on its way to the device (`message`), or the device's
 * answer to one (`reply`).
 */
export type FaultPoint = 'open' | 'ioctl' | 'write' | 'mmap' | 'message' | 'reply';

/** A fault to inject. Exactly one of `errno`, `delay` and `drop` says what happens. */
export interface FaultOptions {
  /** What it strikes. */
  point: FaultPoint;
  /** Name of the device; any device if left out. */
  device?: string;
  /** Ioctl number, IOTLB message type (`write`) or VDUSE message type (`message`, `reply`); any if left out. */
  request?: number;
  /** Matching calls to let through first; 0 if left out. */
  skip?: number;
  /** Matching calls to strike; 1 if left out. */
  times?: number;
  /** The call fails so, and does nothing. */
  errno?: ErrnoName;
  /** Milliseconds by which the call is late. */
  delay?: number;
  /** The message or the reply gets lost, which ends in a message timeout. */
  drop?: true;
}

/** A fault in place. */
export interface Fault {
  /** How many calls it has struck. */
  readonly hits: number;
  /** Takes it out of the way. */
  remove(): void;
}

class PlacedFault implements Fault {
  readonly options: FaultOptions;
  readonly #remove: (fault: PlacedFault) => void;
  #seen = 0;
  hits = 0;

  constructor(options: FaultOptions, remove: (fault: PlacedFault) => void) {
    this.options = options;
    this.#remove = remove;
  }

  /** Counts a call that matches, and says whether this is one to strike. */
  strikes(point: FaultPoint, device: string, request: number | undefined): boolean {
    const { options } = this;
    if (options.point !== point) return false;
    if (options.device !== undefined && options.device !== device) return false;
    if (options.request !== undefined && options.request !== request) return false;
    if (this.#seen++ < (options.skip ?? 0) || this.hits >= (options.times ?? 1)) return false;
    this.hits++;
    return true;
  }

  remove(): void {
    this.#remove(this);
  }
}

/** Makes system calls and messages of a bus fail, late or lost on demand, as a test wants it. */
export class FaultInjection {
  readonly #faults = new Set<PlacedFault>();

  /** Places a fault. ERR_ARGUMENT unless it says exactly one thing that can happen at its point. */
  inject(options: FaultOptions): Fault {
    const effects = [options.errno, options.delay, options.drop].filter((effect) => effect !== undefined);
    if (effects.length !== 1)
      throw new RingbellError('ERR_ARGUMENT', 'a fault has exactly one of errno, delay and drop');
    if (options.drop && options.point !== 'message' && options.point !== 'reply')
      throw new RingbellError(
        'ERR_ARGUMENT',
        `only a message or a reply can be dropped, not ${options.point}`,
      );
    const fault = new PlacedFault(options, (self) => this.#faults.delete(self));
    this.#faults.add(fault);
    return fault;
  }

  /** Takes every fault out of the way. */
  clear(): void {
    this.#faults.clear();
  }

  /** Strikes a call: rejects with its errno, resolves late, or says that a message gets lost. */
  async strike(point: FaultPoint, device: string, request?: number): Promise<'lost' | undefined> {
    for (const fault of this.#faults) {
      if (!fault.strikes(point, device, request)) continue;
      const { errno, delay: milliseconds, drop } = fault.options;
      if (errno) throw systemError(errno, SYSCALL[point], `injected into ${device}`);
      if (drop) return 'lost';
      await delay(milliseconds);
    }
    return undefined;
  }
}

/** The system call that reports a fault. A message's failure shows in the ioctl that waits for its answer. */
const SYSCALL: Record<FaultPoint, string> = {
  open: 'open',
  ioctl: 'ioctl',
  write: 'write',
  mmap: 'mmap',
  message: 'ioctl',
  reply: 'write',
};
