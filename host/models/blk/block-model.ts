import { inspect } from 'node:util';
import { RingbellError } from '../../errors.js';
import { VIRTIO_ID_BLOCK } from '../../uapi/virtio.js';
import type { AttachedModel, DeviceModel, ModelContext } from '../device-model.js';
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
import { BlockModelQueue } from './block-model-queue.js';

/**
 * A disk computed or fetched by TypeScript: extend it, and give `serve` an instance. Handlers run on the event loop of the
 * thread that called `serve`, outside of every lock, many at a time; they may be asynchronous. Offsets and lengths are
 * bytes, whole sectors of 512, inside `capacity`, and judged already. A handler that throws or rejects fails its request
 * with an I/O error, and the device emits ERR_MODEL.
 */
export abstract class BlockModel implements DeviceModel {
  /** VIRTIO_ID_BLOCK. */
  readonly deviceId = VIRTIO_ID_BLOCK;
  /** Bytes; a multiple of the block size. While it is served, it may change in `resize` only. */
  abstract readonly capacity: number;
  /** Bytes: 512, 1024, 2048 or 4096; 512 if left out. */
  declare readonly blockSize?: number;
  /** Refuse everything that changes the disk; a model without `write` is read-only. */
  declare readonly readOnly?: boolean;
  /** What GET_ID answers; at most 20 bytes of UTF-8. */
  declare readonly id?: string;
  #attached = false;

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

  /** Used by `serve`. */
  attach(context: ModelContext): AttachedModel {
    if (this.#attached) throw new RingbellError('ERR_DEVICE_BUSY', 'this model is being served already');
    // Read here and after a resize only: getters are the model's code, and may throw or change their mind at any time.
    let geometry = this.#geometry();
    const id = encodeId(this.id ?? '');
    const features = blockFeatures(geometry, context.queues.length);
    this.#attached = true;
    return {
      features,
      memoryLossIsFinal: false,
      volatile: false,
      usesInOrder: false,
      countsIoErrors: false,
      config: () => encodeBlockConfig(geometry, context.queues.length, context.queueSize),
      loopDatapath: (index, hooks) =>
        new BlockModelQueue(
          this,
          () => geometry,
          id,
          context.queues[index]!,
          context.queues.length,
          context.queueSize,
          hooks,
        ),
      ...(this.resize && {
        resize: (bytes: number) => {
          checkCapacity(bytes, geometry.blockSize, 'the new size');
          let ended: unknown;
          let capacity: number;
          try {
            ended = this.resize!(bytes);
            capacity = this.capacity;
          } catch (error) {
            throw resizeError(error);
          }
          checkCapacity(capacity, geometry.blockSize, 'capacity');
          geometry = { ...geometry, capacity };
          if (ended === undefined) return undefined;
          return Promise.resolve(ended).then(
            () => {},
            (error) => {
              throw resizeError(error);
            },
          );
        },
      }),
      close: () => {
        this.#attached = false;
      },
    };
  }

  #geometry(): BlockGeometry {
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

  [inspect.custom](): string {
    return `${this.constructor.name} { ${this.capacity} bytes }`;
  }
}

function resizeError(cause: unknown): RingbellError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new RingbellError('ERR_MODEL', `the model failed to resize: ${why}`, { cause });
}
