import { COUNT_MASK, FILE_DUE, NOTIFY_DUE, VQ_CROSSINGS } from '../../assembly/layout.js';
import type { Aperture } from '../aperture/aperture.js';
import type { QueueBlock } from './queue-block.js';
import type { Datapath } from './queue-runner.js';
import { count } from './queue-stats.js';

/** Looks at an empty ring before a polling datapath comes back to JavaScript; some hundreds of microseconds. */
const POLL_SPINS = 32768;
/** Bursts before the datapath comes back whatever the ring holds, so that its thread sees a request to leave. */
const POLL_BURSTS = 256;

/** Where the bytes of a disk are, for the thread that serves it: can be posted to a worker. */
export interface DiskBacking {
  /** Linear address of the DISK block. */
  disk: number;
  /** Its bytes are in the aperture, as memory or as a mapped file. */
  inMemory: boolean;
  /** File of the disk, −1 for memory alone. */
  fd: number;
  /** Linear address of this queue's I/O table, 0 without a file. */
  ioTable: number;
}

/**
 * The data path of a disk. In memory: one call to WASM, which serves burst after burst until the driver must be told. In a
 * file: WASM makes one table of vectored I/O of a burst, the addon carries it out, WASM completes it. In a mapped file:
 * the first, and the second for what moves no bytes.
 */
export class BlockDatapath implements Datapath {
  readonly #aperture: Aperture;
  readonly #vq: number;
  readonly #backing: DiskBacking;
  readonly #burst: number;
  readonly #spins: number;
  readonly #attention: () => void;

  /**
   * `pollers` is how many queues share the thread that polls this one: an empty ring is watched for a while, unless it is
   * 0; `attention` is called after I/O errors.
   */
  constructor(block: QueueBlock, backing: DiskBacking, pollers: number, attention: () => void) {
    this.#aperture = block.aperture;
    this.#vq = block.vq;
    this.#backing = backing;
    this.#burst = block.burst;
    this.#spins = pollers > 0 ? Math.floor(POLL_SPINS / pollers) : 0;
    this.#attention = attention;
  }

  burst(): number {
    const { disk, inMemory } = this.#backing;
    if (!inMemory) return this.#fileBurst();
    count(this.#aperture, this.#vq, VQ_CROSSINGS, 1);
    const result = this.#aperture.engine.blkPoll(this.#vq, disk, this.#spins, POLL_BURSTS);
    if (!(result & FILE_DUE)) return result;
    const rest = this.#fileBurst();
    const chains = Math.min((result & COUNT_MASK) + (rest & COUNT_MASK), COUNT_MASK);
    return chains | ((result | rest) & NOTIFY_DUE);
  }

  #fileBurst(): number {
    const { disk, fd, ioTable } = this.#backing;
    const { engine } = this.#aperture;
    count(this.#aperture, this.#vq, VQ_CROSSINGS, 1);
    const requests = engine.blkPrepare(this.#vq, disk, ioTable, this.#burst);
    if (requests === 0) return 0;
    count(this.#aperture, this.#vq, VQ_CROSSINGS, 2);
    const failures = this.#aperture.fileIo(fd, ioTable, requests);
    const result = engine.blkComplete(this.#vq, disk, ioTable, requests);
    // After the counters of the queue say so too.
    if (failures) this.#attention();
    return result;
  }
}
