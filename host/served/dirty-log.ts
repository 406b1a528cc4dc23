import { RingbellError } from '../errors.js';
import type { DirtyOperation, DirtyRange } from '../vduse/dirty-pages.js';

/**
 * Which pages of its driver's memory a device writes, for whoever copies that memory elsewhere while the device goes on.
 * Costs nothing until it is started. It lasts through resets and through changes of mappings, up to `stop`.
 */
export class DirtyLog {
  readonly #operate: (operation: DirtyOperation) => Promise<DirtyRange[]>;
  #started = false;

  /** @internal */
  constructor(operate: (operation: DirtyOperation) => Promise<DirtyRange[]>) {
    this.#operate = operate;
  }

  /** Whether writes are being marked. */
  get started(): boolean {
    return this.#started;
  }

  /**
   * Begins, or begins anew, with nothing dirty: what the device writes from the moment this resolves is marked. Rejects with
   * ERR_CLOSED, ERR_THREAD_LOST, ERR_DEVICE_BROKEN, like the others.
   */
  async start(): Promise<void> {
    await this.#operate('start');
    this.#started = true;
  }

  /**
   * The pages that the device has written since the last fetch, or the start, by IOVA and ascending in each address space.
   * They are clean from then on: a page that is written meanwhile comes with the next fetch. Queues go on. Whoever reads a
   * page after this resolves sees all that was written before it was marked. Also rejects with ERR_CLOSED before `start`.
   */
  async fetch(): Promise<DirtyRange[]> {
    if (!this.#started) throw new RingbellError('ERR_CLOSED', 'the dirty log has not been started');
    return this.#operate('fetch');
  }

  /** Ends it, and forgets what has not been fetched. */
  async stop(): Promise<void> {
    await this.#operate('stop');
    this.#started = false;
  }
}
