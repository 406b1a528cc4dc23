import { closeSync, openSync, readSync } from 'node:fs';
import { inspect } from 'node:util';
import { RingbellError } from '../../errors.js';
import { checkInteger, checkOptions } from '../../options.js';
import { VIRTIO_ID_RNG } from '../../uapi/virtio.js';
import type { Chain } from '../chain.js';
import { DeviceModel } from '../device-model.js';
import type { Manifest } from '../manifest.js';
import { TokenBucket } from './token-bucket.js';

/** What an entropy device gives, and how much of it. */
export interface EntropyDeviceOptions {
  /** Bytes a second at most, and at once after a pause; as many as the driver wants if left out. */
  bytesPerSecond?: number;
  /** Fills all of `into` with entropy, now or later; the kernel's generator if left out. */
  source?: (into: Uint8Array) => void | Promise<void>;
}

const OPTION_NAMES = ['bytesPerSecond', 'source'];
/** The kernel's generator, as getrandom(2) has it. */
const KERNEL_SOURCE = '/dev/urandom';
/** Bytes; the most that goes into one buffer: a driver that wants more offers more. */
const FILL_LIMIT = 65_536;
/** Bytes of buffers that are taken from the ring at once: each is set aside as a whole, however little of it is filled. */
const IN_HAND_BYTES = 2 ** 20;

/**
 * An entropy device ("Entropy Device"): one queue, whose buffers it fills with random bytes, in the order of the ring and no
 * faster than it is told to.
 */
export class EntropyDevice extends DeviceModel {
  override readonly manifest: Manifest = {
    deviceId: VIRTIO_ID_RNG,
    limits: { inHandBytes: IN_HAND_BYTES },
  };
  readonly #bucket: TokenBucket | undefined;
  readonly #source: (into: Uint8Array) => void | Promise<void>;
  /** Buffers that are to be filled, oldest first. */
  readonly #waiting: Chain[] = [];
  #timer: NodeJS.Timeout | undefined;
  /** What the source is at work on. */
  #filling: Chain | undefined;
  /** The kernel's generator, while a driver is there. */
  #fd: number | undefined;

  /** Throws ERR_ARGUMENT for options that make no sense. */
  constructor(options: EntropyDeviceOptions = {}) {
    super();
    checkOptions('EntropyDevice', options, OPTION_NAMES);
    const { bytesPerSecond, source } = options;
    checkInteger('bytesPerSecond', bytesPerSecond, 1, Number.MAX_SAFE_INTEGER);
    if (source !== undefined && typeof source !== 'function')
      throw new RingbellError('ERR_ARGUMENT', `source must be a function, not ${inspect(source)}`);
    this.#source = source ?? ((into) => this.#readKernel(into));
    if (bytesPerSecond !== undefined)
      this.#bucket = new TokenBucket(bytesPerSecond, Math.min(bytesPerSecond, FILL_LIMIT));
  }

  override handle(chains: readonly Chain[]): void {
    for (const chain of chains) {
      // "The driver MUST NOT place device-readable buffers into the queue."
      if (chain.readableBytes > 0) chain.refuse();
      else this.#waiting.push(chain);
    }
    this.#serve();
  }

  override reset(): void {
    clearTimeout(this.#timer);
    // A source that never answers is the affair of the driver that has waited for it, not of the next.
    this.#filling = undefined;
    for (const chain of this.#waiting.splice(0)) chain.complete();
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  /** Fills what waits, until there is nothing more, or there are no tokens for it, or the source takes its time. */
  #serve(): void {
    while (this.#waiting.length > 0 && !this.#filling) {
      const chain = this.#waiting[0] as Chain;
      const bytes = Math.min(chain.writableBytes, this.#bucket?.capacity ?? FILL_LIMIT, FILL_LIMIT);
      const delay = this.#bucket?.take(bytes) ?? 0;
      if (delay > 0) {
        clearTimeout(this.#timer);
        // Whoever waits for the bytes keeps the process alive, if they matter.
        this.#timer = setTimeout(() => this.#serve(), delay).unref();
        return;
      }
      this.#waiting.shift();
      this.#fill(chain, bytes);
    }
  }

  #fill(chain: Chain, bytes: number): void {
    const into = new Uint8Array(bytes);
    const filled = () => {
      if (!chain.stale) chain.write(0, into);
      if (chain.complete(bytes)) chain.queue.countBytes(bytes, 0);
    };
    try {
      const later = this.#source(into);
      if (!(later instanceof Promise)) {
        filled();
        return;
      }
      this.#filling = chain;
      later
        .then(filled)
        .catch((error) => chain.fail(error))
        .finally(() => {
          if (this.#filling !== chain) return;
          this.#filling = undefined;
          this.#serve();
        });
    } catch (error) {
      chain.fail(error);
    }
  }

  #readKernel(into: Uint8Array): void {
    this.#fd ??= openSync(KERNEL_SOURCE, 'r');
    for (let at = 0; at < into.length; ) at += readSync(this.#fd, into, at, into.length - at, null);
  }
}
