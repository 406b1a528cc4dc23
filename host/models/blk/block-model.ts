import { inspect } from 'node:util';
import { RingbellError } from '../../errors.js';
import {
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_TOPOLOGY,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_HEADER_SIZE,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_ID_BLOCK,
} from '../../uapi/virtio.js';
import type { Chain } from '../chain.js';
import { DeviceModel } from '../device-model.js';
import type { DeviceShape, Manifest } from '../manifest.js';
import type { AttachedModel, ModelContext } from '../model.js';
import type { ModelQueue } from '../model-queue.js';
import {
  type BlockGeometry,
  blockFeatures,
  checkBlockSize,
  checkCapacity,
  encodeBlockConfig,
  encodeId,
  JAVASCRIPT_REQUEST_LIMIT,
  JAVASCRIPT_SIZE_MAX,
} from './block-config.js';
import { BlockRequest } from './block-request.js';

/** Bytes that zeroing writes at a time. */
const ZEROES_BYTES = 65536;

const MANIFEST: Manifest = {
  deviceId: VIRTIO_ID_BLOCK,
  features: [
    VIRTIO_BLK_F_SIZE_MAX,
    VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_BLK_SIZE,
    VIRTIO_BLK_F_FLUSH,
    VIRTIO_BLK_F_TOPOLOGY,
    VIRTIO_BLK_F_MQ,
    VIRTIO_BLK_F_DISCARD,
    VIRTIO_BLK_F_WRITE_ZEROES,
  ],
  queues: { minimum: 1, maximum: 65535 },
  // Header, data and status.
  queueSize: 3,
  limits: { chainBytes: JAVASCRIPT_REQUEST_LIMIT + 65536 },
};

/**
 * A disk computed or fetched by TypeScript: extend it, and give `serve` an instance. Handlers run on an event loop, outside of
 * every lock, many at a time; they may be asynchronous. Offsets and lengths are bytes, whole sectors of 512, inside `capacity`,
 * and judged already. A handler that throws or rejects fails its request with an I/O error, and the device emits ERR_MODEL.
 */
export abstract class BlockModel extends DeviceModel {
  override readonly manifest: Manifest = MANIFEST;
  override readonly errorStatus: number = VIRTIO_BLK_S_IOERR;
  /** Bytes; a multiple of the block size. While it is served, it may change in `resize` only. */
  abstract readonly capacity: number;
  /** Bytes: 512, 1024, 2048 or 4096; 512 if left out. */
  declare readonly blockSize?: number;
  /** Refuse everything that changes the disk; a model without `write` is read-only. */
  declare readonly readOnly?: boolean;
  /** What GET_ID answers; at most 20 bytes of UTF-8. */
  declare readonly id?: string;
  /** Read when it is served and after a resize only: getters are the model's code, and may throw or change their mind at any time. */
  #geometry!: BlockGeometry;
  #id!: Uint8Array;

  /** Fills `into`, which is zeroed, with the bytes at `offset`. */
  abstract read(offset: number, into: Uint8Array): void | Promise<void>;
  /** Stores `from`, which it may keep, at `offset`. */
  write?(offset: number, from: Uint8Array): void | Promise<void>;
  /** Makes everything written so far durable. */
  flush?(): void | Promise<void>;
  /** The bytes are no longer needed. */
  discard?(offset: number, length: number): void | Promise<void>;
  /** Zeroes the bytes; `unmap` allows to give their storage back. Without it, zeroes are written. */
  writeZeroes?(offset: number, length: number, unmap: boolean): void | Promise<void>;
  /** Sets `capacity` to `bytes`, before it returns. */
  resize?(bytes: number): void;

  override prepare(): void {
    this.#geometry = this.#readGeometry();
    this.#id = encodeId(this.id ?? '');
  }

  override features({ queues }: DeviceShape): number[] {
    return blockFeatures(this.#geometry, queues);
  }

  override config({ queues, queueSize }: DeviceShape): Uint8Array {
    return encodeBlockConfig(this.#geometry, queues, queueSize);
  }

  override attach(context: ModelContext): AttachedModel {
    const attached = super.attach(context);
    const shape = { queues: context.queues.length, queueSize: context.queueSize };
    return {
      ...attached,
      config: () => this.config(shape),
      ...(this.resize && { resize: (bytes: number) => this.#resize(bytes) }),
    };
  }

  override handle(chains: readonly Chain[], queue: ModelQueue): void {
    for (const chain of chains) {
      if (BlockRequest.isOne(chain)) this.#serve(new BlockRequest(chain, this.#geometry), chain, queue);
      else chain.refuse();
    }
  }

  #serve(request: BlockRequest, chain: Chain, queue: ModelQueue): void {
    const { operation, status } = request;
    if (operation === 'none') chain.complete(0, status);
    else if (operation === 'id') {
      const id = this.#id.subarray(0, chain.writableBytes - 1);
      chain.write(0, id);
      chain.complete(id.length, status);
    } else if (operation === 'read') this.#read(request, chain, queue);
    else
      finish(
        chain,
        () => this.#change(request, chain, queue),
        () => {
          if (operation === 'write') queue.countBytes(0, request.length);
          chain.complete(0, VIRTIO_BLK_S_OK);
        },
      );
  }

  #read({ offset, length }: BlockRequest, chain: Chain, queue: ModelQueue): void {
    // Of a long chain, the array that its bytes go out from.
    const into = chain.long ? chain.writable.subarray(0, length) : new Uint8Array(length);
    finish(
      chain,
      () => this.read(offset, into),
      () => {
        if (into.length !== length) throw new TypeError('it transferred away the array of a read');
        if (!chain.long) chain.write(0, into);
        queue.countBytes(length, 0);
        chain.complete(length, VIRTIO_BLK_S_OK);
      },
    );
  }

  #change(
    { operation, offset, length, unmap }: BlockRequest,
    chain: Chain,
    queue: ModelQueue,
  ): void | Promise<void> {
    switch (operation) {
      case 'write': {
        const from = chain.long
          ? chain.readable.subarray(VIRTIO_BLK_HEADER_SIZE)
          : chain.read(VIRTIO_BLK_HEADER_SIZE, length);
        return this.#stored(queue, this.write!(offset, from));
      }
      case 'writeZeroes':
        return this.#stored(
          queue,
          this.writeZeroes ? this.writeZeroes(offset, length, unmap) : this.#zero(offset, length),
        );
      case 'discard':
        return this.discard!(offset, length);
      default:
        return this.flush?.();
    }
  }

  /** A write has ended when it is durable if the driver did not accept FLUSH: it will never ask for it. */
  #stored(queue: ModelQueue, written: void | Promise<void>): void | Promise<void> {
    if (!this.flush || queue.negotiated(VIRTIO_BLK_F_FLUSH)) return written;
    return Promise.resolve(written).then(() => this.flush!());
  }

  async #zero(offset: number, length: number): Promise<void> {
    // A fresh array each time: the model may keep what it is given.
    for (let done = 0; done < length; done += ZEROES_BYTES)
      await this.write!(offset + done, new Uint8Array(Math.min(length - done, ZEROES_BYTES)));
  }

  #resize(bytes: number): void | Promise<void> {
    checkCapacity(bytes, this.#geometry.blockSize, 'the new size');
    let ended: unknown;
    let capacity: number;
    try {
      ended = this.resize!(bytes);
      capacity = this.capacity;
    } catch (error) {
      throw resizeError(error);
    }
    checkCapacity(capacity, this.#geometry.blockSize, 'capacity');
    this.#geometry = { ...this.#geometry, capacity };
    if (ended === undefined) return undefined;
    return Promise.resolve(ended).then(
      () => {},
      (error) => {
        throw resizeError(error);
      },
    );
  }

  #readGeometry(): BlockGeometry {
    if (typeof this.read !== 'function') throw new TypeError('a BlockModel needs a read method');
    const { capacity, blockSize = 512, readOnly = !this.write } = this;
    checkBlockSize(blockSize);
    checkCapacity(capacity, blockSize, 'capacity');
    if (!readOnly && !this.write)
      throw new RingbellError('ERR_ARGUMENT', 'a model that is not read-only needs a write method');
    return {
      capacity,
      blockSize,
      readOnly,
      flush: !readOnly,
      discard: !readOnly && this.discard !== undefined,
      writeZeroes: !readOnly,
      sizeMax: JAVASCRIPT_SIZE_MAX,
      requestLimit: JAVASCRIPT_REQUEST_LIMIT,
    };
  }

  override [inspect.custom](): string {
    return `${this.constructor.name} { ${this.capacity} bytes }`;
  }
}

/** Calls a handler, and `end` once it has ended, unless the driver has gone meanwhile. A chain whose handler, or end, fails is failed. */
function finish(chain: Chain, handler: () => void | Promise<void>, end: () => void): void {
  const ended = () => {
    if (chain.stale) chain.complete();
    else end();
  };
  try {
    const result = handler();
    if (result === undefined) ended();
    else
      Promise.resolve(result)
        .then(ended)
        .catch((error) => chain.fail(error));
  } catch (error) {
    chain.fail(error);
  }
}

function resizeError(cause: unknown): RingbellError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new RingbellError('ERR_MODEL', `the model failed to resize: ${why}`, { cause });
}
