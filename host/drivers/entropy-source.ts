import { channel } from 'node:diagnostics_channel';
import { inspect } from 'node:util';
import { abortError, type RingbellError } from '../errors.js';
import { checkInteger, checkOptions, checkSignal } from '../options.js';
import type { CompletionMode } from './completion-watch.js';
import { DrivenDevice } from './driven-device.js';
import type { DriverLane } from './driver-lane.js';
import type { DriverQueue } from './driver-queue.js';
import { EntropyQueue } from './entropy-queue.js';
import { EntropyRead } from './entropy-read.js';
import type { VirtioDriver } from './virtio-driver.js';

const CALL_OPTION_NAMES = ['signal'];
/** Bytes; the most that one call reads. */
const READ_LIMIT = 2 ** 31 - 1;

const channels = {
  key: 'entropy',
  open: channel('ringbell:entropy:open'),
  doorbell: channel('ringbell:entropy:doorbell'),
  config: channel('ringbell:entropy:config'),
  error: channel('ringbell:entropy:error'),
  close: channel('ringbell:entropy:close'),
};

/** Of `read`. */
export interface EntropyReadOptions {
  /** Rejects the call with an AbortError. */
  signal?: AbortSignal | undefined;
}

/**
 * An entropy device, driven. Its config is null: it has none. Calls reject with ERR_CLOSED, ERR_DEVICE_BROKEN, an AbortError.
 * Whoever reads keeps the process alive, an idle source does not.
 */
export class EntropySource extends DrivenDevice<null> {
  /** @internal */
  protected override readonly lanes: readonly DriverLane[];
  readonly #queue: EntropyQueue;

  /**
   * For `openEntropy`: a driver that is set up and not yet started.
   * @internal
   */
  constructor(driver: VirtioDriver, mode: CompletionMode) {
    super(driver, null, channels);
    this.#queue = new EntropyQueue(driver.queues[0] as DriverQueue, {
      mode,
      onBroken: (error: RingbellError) => this.breakDevice(error),
    });
    this.lanes = [this.#queue];
  }

  /**
   * Resolves to `bytes` bytes from the device, up to 2^31 - 1, which takes it as long as it likes. They are as good as the device
   * is: mix them with others. Rejects with ERR_ARGUMENT, and with ERR_IO if it gives nothing.
   */
  async read(bytes: number, options: EntropyReadOptions = {}): Promise<Uint8Array> {
    this.checkOpen();
    checkInteger('bytes', bytes, 0, READ_LIMIT);
    checkOptions('read', options, CALL_OPTION_NAMES);
    const { signal } = options;
    checkSignal(signal);
    if (signal?.aborted) throw abortError(signal);
    const read = new EntropyRead(bytes);
    if (signal) read.abortOn(signal);
    this.#queue.submit(read);
    await read.promise;
    return read.bytes;
  }

  /** @internal */
  protected override async readConfig(): Promise<null> {
    return null;
  }

  [inspect.custom](): string {
    const state = this.closing ? 'closed' : this.broken ? 'broken' : 'open';
    return `EntropySource { ${this.name}, ${state} }`;
  }
}
