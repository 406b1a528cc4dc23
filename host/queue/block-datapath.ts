import { COUNT_MASK, VQ_CROSSINGS } from '../../assembly/layout.js';
import type { Aperture } from '../aperture/aperture.js';
import type { QueueBlock } from './queue-block.js';
import type { Datapath } from './queue-runner.js';
import { count } from './queue-stats.js';

/** Looks at an empty ring before a polling datapath comes back to JavaScript; some tens of microseconds. */
const POLL_SPINS = 4096;
/** Bursts before the datapath comes back whatever the ring holds, so that its thread sees a request to leave. */
const POLL_BURSTS = 256;

/** Where the bytes of a disk are, for the thread that serves it: can be posted to a worker. */
export interface DiskBacking {
  /** Linear address of the DISK block. */
  disk: number;
  /** File of the disk, −1 for a disk that WASM serves alone. */
  fd: number;
  /** Linear address of this queue's I/O table, 0 for a disk that WASM serves alone. */
  ioTable: number;
}

/** The data path of a disk, by its backing. `failed` is called after a burst in which the addon failed. */
export function blockDatapath(
  block: QueueBlock,
  backing: DiskBacking,
  poll: boolean,
  failed: () => void,
): Datapath {
  return backing.fd < 0
    ? new MemoryDatapath(block, backing.disk, poll)
    : new FileDatapath(block, backing, failed);
}

/** A disk in memory: everything happens in one call to WASM, burst after burst until the driver must be told. */
class MemoryDatapath implements Datapath {
  readonly #aperture: Aperture;
  readonly #vq: number;
  readonly #disk: number;
  readonly #spins: number;

  constructor(block: QueueBlock, disk: number, poll: boolean) {
    this.#aperture = block.aperture;
    this.#vq = block.vq;
    this.#disk = disk;
    this.#spins = poll ? POLL_SPINS : 0;
  }

  burst(): number {
    count(this.#aperture, this.#vq, VQ_CROSSINGS, 1);
    return this.#aperture.engine.blkPoll(this.#vq, this.#disk, this.#spins, POLL_BURSTS);
  }
}

/** A disk in a file: WASM makes one table of vectored I/O of a burst, the addon carries it out, WASM completes it. */
class FileDatapath implements Datapath {
  readonly #aperture: Aperture;
  readonly #vq: number;
  readonly #backing: DiskBacking;
  readonly #burst: number;
  readonly #failed: () => void;

  constructor(block: QueueBlock, backing: DiskBacking, failed: () => void) {
    this.#aperture = block.aperture;
    this.#vq = block.vq;
    this.#backing = backing;
    this.#burst = block.burst;
    this.#failed = failed;
  }

  burst(): number {
    const { disk, fd, ioTable } = this.#backing;
    const { engine } = this.#aperture;
    count(this.#aperture, this.#vq, VQ_CROSSINGS, 1);
    const requests = engine.blkPrepare(this.#vq, disk, ioTable, this.#burst) & COUNT_MASK;
    if (requests === 0) return 0;
    count(this.#aperture, this.#vq, VQ_CROSSINGS, 2);
    const failures = this.#aperture.fileIo(fd, ioTable, requests);
    const result = engine.blkComplete(this.#vq, disk, ioTable, requests);
    // After the counters of the queue say so too.
    if (failures) this.#failed();
    return result;
  }
}
