import { COUNT_MASK, FILE_DUE, NOTIFY_DUE, VQ_CROSSINGS } from '../../../assembly/layout.js';
import type { Aperture } from '../../aperture/aperture.js';
import type { Datapath, DatapathOptions } from '../../queue/datapath.js';
import type { QueueBlock } from '../../queue/queue-block.js';
import { count } from '../../queue/queue-stats.js';
import { SpinBudget } from '../../queue/spin-budget.js';

/** Where the bytes of a disk are, for the thread that serves it: can be posted to a worker. */
export interface DiskBacking {
  /** Linear address of the DISK block. */
  disk: number;
  /** Its bytes are in the aperture, as memory or as a mapped file. */
  inMemory: boolean;
  /** File of the disk, a memory file if need be. */
  fd: number;
  /** Linear address of this queue's I/O table. */
  ioTable: number;
}

/**
 * The data path of a disk. In memory: one call to WASM, which serves burst after burst until the driver must be told. In a
 * file: WASM makes one table of vectored I/O of a burst, the addon carries it out, WASM completes it. In a mapped file:
 * the first for what is read, the second for the rest.
 */
class BlockDatapath implements Datapath {
  readonly #aperture: Aperture;
  readonly #vq: number;
  readonly #backing: DiskBacking;
  readonly #fileIo: (count: number) => number;
  readonly #burst: number;
  readonly #bursts: number;
  readonly #budget: SpinBudget;
  #drained = false;
  readonly #attention: () => void;

  constructor(block: QueueBlock, backing: DiskBacking, { pollers, bursts, attention }: DatapathOptions) {
    this.#aperture = block.aperture;
    this.#vq = block.vq;
    this.#backing = backing;
    this.#fileIo = block.aperture.prepareFileIo(backing.fd, backing.ioTable);
    this.#burst = block.burst;
    this.#bursts = bursts;
    this.#budget = new SpinBudget(pollers);
    this.#attention = attention;
  }

  burst(): number {
    const result = this.#serve(this.#budget.spins, this.#bursts);
    const chains = result & COUNT_MASK;
    // A call that polls comes back without an interrupt to send only when looking has found nothing, or when it has served
    // all that it may in one call; the look that follows arming tells.
    this.#drained = this.#budget.spins > 0 && this.#backing.inMemory && chains > 0 && !(result & NOTIFY_DUE);
    // In memory: more than the burst that was there at first.
    this.#budget.adapt(chains > (this.#backing.inMemory ? this.#burst : 0));
    return result;
  }

  burstOnce(): number {
    this.#drained = false;
    return this.#serve(0, 1);
  }

  get drained(): boolean {
    return this.#drained;
  }

  #serve(spins: number, bursts: number): number {
    const { disk, inMemory } = this.#backing;
    if (!inMemory) return this.#wait(spins) ? this.#fileBurst() : 0;
    count(this.#aperture, this.#vq, VQ_CROSSINGS, 1n);
    const result = this.#aperture.engine.blkPoll(this.#vq, disk, spins, bursts);
    if (!(result & FILE_DUE)) return result;
    const rest = this.#fileBurst();
    const chains = Math.min((result & COUNT_MASK) + (rest & COUNT_MASK), COUNT_MASK);
    return chains | ((result | rest) & NOTIFY_DUE);
  }

  /** Watches the ring for a while, if it is polled: whether it is worth a burst. */
  #wait(spins: number): boolean {
    if (spins === 0) return true;
    count(this.#aperture, this.#vq, VQ_CROSSINGS, 1n);
    return this.#aperture.engine.deviceWait(this.#vq, spins) > 0;
  }

  #fileBurst(): number {
    const { disk, ioTable } = this.#backing;
    const { engine } = this.#aperture;
    count(this.#aperture, this.#vq, VQ_CROSSINGS, 1n);
    const requests = engine.blkPrepare(this.#vq, disk, ioTable, this.#burst);
    if (requests === 0) return 0;
    count(this.#aperture, this.#vq, VQ_CROSSINGS, 2n);
    const failures = this.#fileIo(requests);
    const result = engine.blkComplete(this.#vq, disk, ioTable, requests);
    // After the counters of the queue say so too.
    if (failures) this.#attention();
    return result;
  }
}

/** For queue threads, which make it from a DatapathSource. */
export function createDatapath(block: QueueBlock, data: unknown, options: DatapathOptions): Datapath {
  return new BlockDatapath(block, data as DiskBacking, options);
}
