import { type ErrorCode, RingbellError, VERDICT_CODES } from '../errors.js';
import type { VduseDeviceListener } from './device-layout.js';
import { failureOf } from './failure.js';
import type { VduseFile } from './file.js';
import type { Virtqueues } from './virtqueues.js';

/**
 * What keeps a device from running: a broken queue, until the driver resets, or a stuck thread, for ever. Whichever it is, the
 * queues stop, and whoever can be told is: the driver by DEVICE_NEEDS_RESET, the owner by the listener.
 */
export class Breakdown {
  readonly #file: VduseFile;
  readonly #queues: Virtqueues;
  readonly #listener: VduseDeviceListener;
  readonly #needsReset: () => void;
  #broken = false;
  #stuck = false;

  /** `needsReset` is called when the driver has been told. */
  constructor(file: VduseFile, queues: Virtqueues, listener: VduseDeviceListener, needsReset: () => void) {
    this.#file = file;
    this.#queues = queues;
    this.#listener = listener;
    this.#needsReset = needsReset;
  }

  /** Nothing runs until the driver resets. */
  get broken(): boolean {
    return this.#broken;
  }

  /** A thread is stuck inside a ring: nothing runs ever again, and nothing may be unmapped. */
  get stuck(): boolean {
    return this.#stuck;
  }

  /** Throws ERR_DEVICE_BROKEN where a driver cannot be served. */
  check(): void {
    if (this.#stuck)
      throw new RingbellError(
        'ERR_DEVICE_BROKEN',
        'a thread of the device hangs inside a ring, which no reset ends: close the device and serve another one',
      );
    if (this.#broken)
      throw new RingbellError(
        'ERR_DEVICE_BROKEN',
        'the device is broken and cannot be started without a reset',
      );
  }

  /** Breaks the device if one of its queues is broken. */
  async judge(): Promise<void> {
    for (const queue of this.#queues)
      if (queue.block.verdict) await this.break(VERDICT_CODES[queue.block.verdict]!, queue.describeVerdict());
  }

  /** An operation failed. A stuck thread breaks the device; anything else is reported, and it goes on. */
  async fail(error: unknown): Promise<void> {
    const { code, message } = failureOf(error);
    if (code !== 'ERR_THREAD_LOST') return this.#listener.error(code, message);
    this.#stuck = true;
    await this.break(code, message);
  }

  /** Stops the device until the driver resets it, tells the driver where the transport can, and the listener. */
  async break(code: ErrorCode, message: string): Promise<void> {
    if (this.#broken) return;
    this.#broken = true;
    this.stop();
    const told = await this.#file.needsReset().catch(() => false);
    this.#listener.error(
      code,
      told ? message : `${message}; the driver does not know: its transport has no DEVICE_NEEDS_RESET`,
    );
    if (told) this.#needsReset();
  }

  /** Stops the queues. Under a thread that does not leave its ring nothing may be unmapped ever after. */
  stop(): void {
    if (!this.#queues.stop()) this.#stuck = true;
  }

  /** The driver has reset the device, and no thread is stuck: it may run again. */
  mend(): void {
    this.#broken = false;
  }
}
