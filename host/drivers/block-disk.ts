import { channel } from 'node:diagnostics_channel';
import { inspect } from 'node:util';
import {
  VIRTIO_BLK_CONFIG_BYTES,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
} from '../../assembly/virtio.js';
import { abortError, RingbellError } from '../errors.js';
import { checkOptions, checkSignal } from '../options.js';
import { mask } from '../uapi/bits.js';
import { featureNames } from '../uapi/names.js';
import { BlockBatch } from './block-batch.js';
import { type BlockConfig, decodeBlockConfig } from './block-config.js';
import type { BlockOperation, BlockOperationKind } from './block-operation.js';
import { BlockQueue } from './block-queue.js';
import { BlockScheduler } from './block-scheduler.js';
import type { CompletionMode } from './completion-watch.js';
import { DrivenDevice } from './driven-device.js';
import type { VirtioDriver } from './virtio-driver.js';

/** Bytes of one request without a bounce buffer; longer ones run in parallel parts. */
const ZERO_COPY_BYTES_MAX = 2 ** 20;

const REQUEST_OPTION_NAMES = ['signal'];
const WRITE_ZEROES_OPTION_NAMES = ['unmap', ...REQUEST_OPTION_NAMES];

const requestChannel = channel('ringbell:disk:request');
const channels = {
  key: 'disk',
  open: channel('ringbell:disk:open'),
  doorbell: channel('ringbell:disk:doorbell'),
  config: channel('ringbell:disk:config'),
  error: channel('ringbell:disk:error'),
  close: channel('ringbell:disk:close'),
};

/** Of every call that asks something of the device. */
export interface RequestOptions {
  /**
   * Rejects the call with an AbortError. What has not reached the ring is dropped; what has is left to the device, whose
   * answer nobody will see: a zero-copy read may still change its memory.
   */
  signal?: AbortSignal | undefined;
}

/** What the disk keeps from the options it was opened with. */
export interface BlockDiskOptions {
  mode: CompletionMode;
  /** Bytes of a bounce buffer. */
  slotBytes: number;
}

/**
 * A virtio-blk device, driven. Calls may overlap freely: they wait for slots by themselves. A call resolves when the
 * device has given all of its requests back, and rejects with ERR_CLOSED, ERR_DEVICE_BROKEN, ERR_READ_ONLY,
 * ERR_ALIGNMENT, ERR_OUT_OF_RANGE, ERR_NOT_SUPPORTED, ERR_IO or ERR_UNSUPPORTED_REQUEST. Buffers must be left alone until
 * then. Requests on their way keep the process alive, an idle disk does not.
 */
export class BlockDisk extends DrivenDevice<BlockConfig> {
  /** Whether the device refuses everything that changes it (VIRTIO_BLK_F_RO). */
  readonly readOnly: boolean;
  /** @internal */
  protected override readonly lanes: readonly BlockQueue[];
  readonly #batches: (BlockBatch | undefined)[] = [];
  readonly #scheduler: BlockScheduler;

  /**
   * For `openBlock`: a driver that is set up and not yet started.
   * @internal
   */
  constructor(driver: VirtioDriver, config: BlockConfig, options: BlockDiskOptions) {
    super(driver, config, channels);
    this.readOnly = driver.hasFeature(VIRTIO_BLK_F_RO);
    this.lanes = driver.queues.map(
      (queue) => new BlockQueue(queue, { ...options, onBroken: (error) => this.breakDevice(error) }),
    );
    this.#scheduler = new BlockScheduler(this.lanes, {
      bouncedBytes: options.slotBytes,
      zeroCopyBytes: () => this.maxBytes,
    });
  }

  /** Bytes. */
  get capacity(): number {
    return this.config.capacity;
  }

  /** Queues in use. */
  get queues(): number {
    return this.lanes.length;
  }

  /** Whether the disk has a write cache that `flush` empties. */
  get flushes(): boolean {
    return this.driver.hasFeature(VIRTIO_BLK_F_FLUSH);
  }

  /** Bytes of one read or write on the ring; `read` and `write` take any number. */
  get maxBytes(): number {
    const { sizeMax } = this.config;
    return sizeMax === undefined ? ZERO_COPY_BYTES_MAX : Math.min(wholeSectors(sizeMax), ZERO_COPY_BYTES_MAX);
  }

  /** Reads `length` bytes, whole sectors, from `offset` (bytes) into a new array. ERR_ARGUMENT if none can be so long. */
  read(offset: number, length: number, options?: RequestOptions): Promise<Uint8Array>;
  /** Reads whole sectors from `offset` (bytes) into `target`, and resolves to it. */
  read<T extends Uint8Array>(offset: number, target: T, options?: RequestOptions): Promise<T>;
  async read(offset: number, target: number | Uint8Array, options: RequestOptions = {}): Promise<Uint8Array> {
    const length = typeof target === 'number' ? target : bufferOf(target).byteLength;
    this.#check('read', offset, length, options);
    const data = typeof target === 'number' ? newArray(offset, length) : target;
    await this.#track(this.#scheduler.transfer('read', offset, data), options);
    return data;
  }

  /** Writes whole sectors at `offset` (bytes). Durable after the next `flush`. */
  async write(offset: number, data: Uint8Array, options: RequestOptions = {}): Promise<void> {
    this.#check('write', offset, bufferOf(data).byteLength, options);
    this.#writable();
    await this.#track(this.#scheduler.transfer('write', offset, data), options);
  }

  /** Makes every write that was acknowledged before durable. A disk without a write cache has nothing to do. */
  async flush(options: RequestOptions = {}): Promise<void> {
    this.#check('flush', 0, 0, options);
    if (!this.flushes) return;
    await this.#track(this.#scheduler.flush(), options);
  }

  /** Tells the disk that `length` bytes from `offset` are no longer needed: what they read as is the disk's choice. */
  async discard(offset: number, length: number, options: RequestOptions = {}): Promise<void> {
    this.#check('discard', offset, length, options);
    this.#writable();
    const limits = this.config.discard;
    if (!limits) throw this.#lacks(VIRTIO_BLK_F_DISCARD);
    await this.#track(this.#scheduler.ranges('discard', offset, length, limits.maxBytes, 0), options);
  }

  /** Makes `length` bytes from `offset` read as zeroes. `unmap` lets the disk give their space back. */
  async writeZeroes(
    offset: number,
    length: number,
    options: RequestOptions & { unmap?: boolean | undefined } = {},
  ): Promise<void> {
    this.#check('writeZeroes', offset, length, options);
    this.#writable();
    const limits = this.config.writeZeroes;
    if (!limits) throw this.#lacks(VIRTIO_BLK_F_WRITE_ZEROES);
    const flags = options.unmap && limits.mayUnmap ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
    await this.#track(this.#scheduler.ranges('writeZeroes', offset, length, limits.maxBytes, flags), options);
  }

  /** The disk's id string: at most 20 bytes. */
  async getId(options: RequestOptions = {}): Promise<string> {
    this.#check('getId', 0, 0, options);
    const id = new Uint8Array(VIRTIO_BLK_ID_BYTES);
    await this.#track(this.#scheduler.getId(id), options);
    const end = id.indexOf(0);
    return new TextDecoder().decode(end < 0 ? id : id.subarray(0, end));
  }

  /**
   * `bytes` of zeroed memory that the device sees: reads and writes of it, and of subarrays of it, copy nothing. It is
   * never given back before `close`, and stays valid memory after it, for as long as it is reachable. Throws ERR_APERTURE_FULL (option `allocBytes`), ERR_CLOSED.
   */
  alloc(bytes: number): Uint8Array {
    this.checkOpen();
    return this.driver.memory.alloc(bytes);
  }

  /** The batch of a queue: the same one each time. Throws ERR_ARGUMENT for a queue that there is not, ERR_CLOSED. */
  batch(options: { queue?: number } = {}): BlockBatch {
    this.checkOpen();
    checkOptions('batch', options, ['queue']);
    const { queue = 0 } = options;
    const lane = this.lanes[queue];
    if (!lane)
      throw new RingbellError('ERR_ARGUMENT', `queue ${queue}: the disk has ${this.lanes.length} queues`);
    const batch = this.#batches[queue] ?? new BlockBatch(lane, this);
    this.#batches[queue] = batch;
    return batch;
  }

  /** @internal */
  protected override readConfig(): Promise<BlockConfig> {
    return readBlockConfig(this.driver);
  }

  #check(kind: BlockOperationKind, offset: number, length: number, options: RequestOptions): void {
    this.checkOpen();
    checkOptions(kind, options, kind === 'writeZeroes' ? WRITE_ZEROES_OPTION_NAMES : REQUEST_OPTION_NAMES);
    checkSignal(options.signal);
    if (!Number.isSafeInteger(offset)) throw new TypeError(`offset must be an integer, not ${offset}`);
    if (!Number.isSafeInteger(length)) throw new TypeError(`length must be an integer, not ${length}`);
    if (offset % VIRTIO_BLK_SECTOR_SIZE || length % VIRTIO_BLK_SECTOR_SIZE)
      throw new RingbellError(
        'ERR_ALIGNMENT',
        `${kind} of ${length} bytes at ${offset}: not whole sectors of ${VIRTIO_BLK_SECTOR_SIZE} bytes`,
      );
    if (offset < 0 || length < 0 || offset + length > this.capacity)
      throw new RingbellError(
        'ERR_OUT_OF_RANGE',
        `${kind} of ${length} bytes at ${offset}: the disk has ${this.capacity} bytes`,
      );
    if (options.signal?.aborted) throw abortError(options.signal);
  }

  #writable(): void {
    if (this.readOnly) throw new RingbellError('ERR_READ_ONLY', `${this.name} is read-only`);
  }

  #lacks(feature: number): RingbellError {
    const [name] = featureNames(this.driver.device.deviceId, mask(feature));
    return new RingbellError('ERR_NOT_SUPPORTED', `${this.name} lacks ${name}`);
  }

  #track(operation: BlockOperation, { signal }: RequestOptions): Promise<void> {
    if (signal) operation.abortOn(signal);
    if (requestChannel.hasSubscribers) {
      const { kind, offset, length } = operation;
      const started = performance.now();
      const publish = (error?: unknown) =>
        requestChannel.publish({
          disk: this,
          kind,
          offset,
          length,
          milliseconds: performance.now() - started,
          error,
        });
      operation.promise.then(() => publish(), publish);
    }
    return operation.promise;
  }

  [inspect.custom](): string {
    const state = this.closing ? ', closed' : this.broken ? ', broken' : '';
    const access = this.readOnly ? 'read-only, ' : '';
    return `BlockDisk { ${this.name}, ${this.capacity} bytes, ${access}${this.queues} queue${this.queues === 1 ? '' : 's'}${state} }`;
  }
}

/** Reads and decodes a disk's config space. */
export async function readBlockConfig(driver: VirtioDriver): Promise<BlockConfig> {
  const { device, features } = driver;
  const bytes = Math.min(device.configSize ?? VIRTIO_BLK_CONFIG_BYTES, VIRTIO_BLK_CONFIG_BYTES);
  return decodeBlockConfig(await device.config(bytes), features);
}

function wholeSectors(bytes: number): number {
  return bytes - (bytes % VIRTIO_BLK_SECTOR_SIZE);
}

/** The array of a read of `length` bytes. How long one can be depends on the engine and on memory: only trying tells. */
function newArray(offset: number, length: number): Uint8Array {
  try {
    return new Uint8Array(length);
  } catch (cause) {
    const message = `read of ${length} bytes at ${offset}: no array is as long`;
    throw new RingbellError('ERR_ARGUMENT', message, { cause });
  }
}

function bufferOf(data: Uint8Array): Uint8Array {
  if (!(data instanceof Uint8Array))
    throw new TypeError('data must be a Uint8Array, or a number of bytes to read');
  return data;
}
