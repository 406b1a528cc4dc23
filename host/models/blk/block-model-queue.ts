import {
  NOTIFY_DUE,
  REQUEST_DESCRIPTORS,
  VERDICT_REQUEST,
  VQ_BYTES_READ,
  VQ_BYTES_WRITTEN,
  VQ_CROSSINGS,
  VQ_IO_ERRORS,
} from '../../../assembly/layout.js';
import type { Aperture } from '../../aperture/aperture.js';
import type { Engine } from '../../aperture/engine.js';
import type { QueueBlock } from '../../queue/queue-block.js';
import type { LoopDatapath } from '../../queue/queue-loop.js';
import { count } from '../../queue/queue-stats.js';
import {
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_HEADER_SIZE,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTQ_DESC_SIZE,
} from '../../uapi/virtio.js';
import type { LoopHooks } from '../device-model.js';
import type { BlockGeometry } from './block-config.js';
import type { BlockModel } from './block-model.js';
import { BlockRequest, REQUEST_HEADER_BYTES } from './block-request.js';

/** Requests taken or given back in one burst, which a pause has to wait for. */
const BURST = 32;
/** Bytes of the bounce buffer through which a queue's bytes pass, in WASM's memory but out of the driver's reach. */
const BOUNCE_BYTES = 65536;
/** Bytes of REQUEST blocks that all queues of a device share: a quarter of the aperture's private part. */
const REQUEST_BLOCKS_BYTES = 2 ** 25;
/** Bytes of requests in the model's hands; no more are taken until some are given back. */
const IN_FLIGHT_LIMIT = 2 ** 25;

/**
 * One queue of a JavaScript disk. Inside the gate chains are taken and given back, and their bytes moved by WASM; outside
 * of it the model's handlers run, in arrays of JavaScript's own. A request that comes back after a reset is dropped.
 */
export class BlockModelQueue implements LoopDatapath {
  readonly #model: BlockModel;
  readonly #geometry: () => BlockGeometry;
  readonly #id: Uint8Array;
  readonly #block: QueueBlock;
  readonly #aperture: Aperture;
  readonly #engine: Engine;
  readonly #hooks: LoopHooks;
  /** Linear address of the bounce buffer. */
  readonly #bounce: number;
  /** Bytes of a REQUEST block. */
  readonly #requestBytes: number;
  /** Requests that may be held at once: what the ring can hold, whatever resets have left with the model, if there is room. */
  readonly #heldLimit: number;
  /** Linear addresses of REQUEST blocks that no request holds. */
  readonly #freeBlocks: number[] = [];
  /** Requests taken, for the model. */
  #taken: BlockRequest[] = [];
  /** Requests to be given back, oldest first. */
  readonly #done: BlockRequest[] = [];
  /** Requests taken and not yet given back or dropped, and the bytes of their data. */
  #held = 0;
  #inFlight = 0;
  /** Reads found inside the gate without their arrays: reported outside of it, where code that is not ours may run. */
  #detached = 0;
  #crossings = 0;

  constructor(
    model: BlockModel,
    geometry: () => BlockGeometry,
    id: Uint8Array,
    block: QueueBlock,
    queues: number,
    queueSize: number,
    hooks: LoopHooks,
  ) {
    this.#model = model;
    this.#geometry = geometry;
    this.#id = id;
    this.#block = block;
    this.#aperture = block.aperture;
    this.#engine = block.aperture.engine;
    this.#hooks = hooks;
    this.#bounce = this.#aperture.allocate(BOUNCE_BYTES);
    this.#requestBytes = REQUEST_DESCRIPTORS + (queueSize + 1) * VIRTQ_DESC_SIZE;
    const blocks = Math.floor(REQUEST_BLOCKS_BYTES / queues / this.#requestBytes);
    this.#heldLimit = Math.min(queueSize, Math.max(blocks, 1));
  }

  burst(): number {
    const { vq } = this.#block;
    let progress = 0;
    let given = 0;
    for (; progress < BURST && this.#done.length > 0; progress++) {
      const request = this.#done[0]!;
      if (request.isStale(this.#block.epoch)) this.#release(request);
      else if (this.#giveBack(request)) given++;
      else break;
    }
    let notify = 0;
    if (given) {
      notify = this.#engine.requestPublish(vq, given) & NOTIFY_DUE;
      this.#crossings++;
    }
    while (progress < BURST && !this.#block.miss && !this.saturated && this.#take()) progress++;
    count(this.#aperture, vq, VQ_CROSSINGS, BigInt(this.#crossings));
    this.#crossings = 0;
    return progress | notify;
  }

  get saturated(): boolean {
    return this.#inFlight >= IN_FLIGHT_LIMIT || this.#held >= this.#heldLimit;
  }

  settle(): void {
    for (; this.#detached > 0; this.#detached--)
      this.#hooks.failed(new TypeError('it transferred away the array of a read'));
    const taken = this.#taken;
    this.#taken = [];
    for (const request of taken) this.#handle(request);
  }

  /** Takes a chain, and what the model needs of it: false if there is none. */
  #take(): boolean {
    const { vq } = this.#block;
    if (this.#freeBlocks.length === 0) this.#freeBlocks.push(this.#aperture.allocate(this.#requestBytes));
    const linear = this.#freeBlocks.at(-1)!;
    this.#crossings++;
    if (this.#engine.requestTake(vq, linear) === 0) return false;
    if (!BlockRequest.isOne(this.#aperture, linear)) {
      this.#engine.deviceBreak(vq, VERDICT_REQUEST);
      return false;
    }
    this.#crossings++;
    this.#engine.requestRead(vq, linear, 0, this.#bounce, REQUEST_HEADER_BYTES);
    const request = new BlockRequest(this.#aperture, linear, this.#bounce, this.#geometry());
    this.#freeBlocks.pop();
    this.#held++;
    if (this.#block.latency.due()) {
      this.#block.latency.begin();
      request.takenAt = performance.now();
    }
    this.#inFlight += request.dataBytes;
    if (request.operation === 'write') this.#copyIn(request, request.data!);
    if (request.operation === 'none') this.#done.push(request);
    else this.#taken.push(request);
    return true;
  }

  /** From the driver to the model. All of the chain was mapped when it was taken, inside the same gate. */
  #copyIn({ linear }: BlockRequest, data: Uint8Array): void {
    for (let moved = 0; moved < data.length; moved += BOUNCE_BYTES) {
      const bytes = Math.min(data.length - moved, BOUNCE_BYTES);
      this.#crossings++;
      const from = VIRTIO_BLK_HEADER_SIZE + moved;
      this.#engine.requestRead(this.#block.vq, linear, from, this.#bounce, bytes);
      data.set(this.#aperture.u8.subarray(this.#bounce, this.#bounce + bytes), moved);
    }
  }

  /** From the model to the driver: false if some of it is not mapped (any more), which the queue has noted as a miss. */
  #copyOut({ linear }: BlockRequest, data: Uint8Array, offset: number): boolean {
    for (let moved = 0; moved < data.length; moved += BOUNCE_BYTES) {
      const piece = data.subarray(moved, moved + BOUNCE_BYTES);
      this.#aperture.u8.set(piece, this.#bounce);
      this.#crossings++;
      const at = offset + moved;
      const copied = this.#engine.requestWrite(this.#block.vq, linear, at, this.#bounce, piece.length);
      if (copied < piece.length) return false;
    }
    return true;
  }

  /** Data, status byte, used entry: false if it has to wait for a mapping. */
  #giveBack(request: BlockRequest): boolean {
    const { vq } = this.#block;
    if (request.operation === 'read' && request.status === VIRTIO_BLK_S_OK && request.isDetached) {
      this.#fail(request);
      this.#detached++;
    }
    const ok = request.status === VIRTIO_BLK_S_OK;
    let written = 0;
    const out =
      request.operation === 'read' ? request.data : request.operation === 'id' ? this.#id : undefined;
    if (ok && out) {
      written = Math.min(out.length, request.statusOffset);
      this.#copyOut(request, out.subarray(0, written), 0);
    }
    // A copy that an IOTLB update keeps from being made is made again, whole, once there is a mapping. One that its
    // mapping does not permit any more is the driver's loss.
    if (!this.#block.miss) this.#copyOut(request, Uint8Array.of(request.status), request.statusOffset);
    if (this.#block.miss) return false;
    this.#engine.requestFinish(vq, request.linear, written + 1);
    if (request.takenAt !== undefined) this.#block.latency.record(performance.now() - request.takenAt, 1);
    this.#crossings++;
    if (ok && request.operation === 'read') count(this.#aperture, vq, VQ_BYTES_READ, BigInt(request.length));
    if (ok && request.operation === 'write')
      count(this.#aperture, vq, VQ_BYTES_WRITTEN, BigInt(request.length));
    this.#release(request);
    return true;
  }

  /** Removes the first of the done, and frees what it held. */
  #release(request: BlockRequest): void {
    this.#done.shift();
    this.#held--;
    this.#inFlight -= request.dataBytes;
    this.#freeBlocks.push(request.linear);
  }

  #handle(request: BlockRequest): void {
    let result: void | Promise<void>;
    try {
      result = this.#callModel(request);
    } catch (error) {
      this.#failed(request, error);
      return;
    }
    if (result === undefined) this.#finished(request);
    else
      Promise.resolve(result).then(
        () => this.#finished(request),
        (error) => this.#failed(request, error),
      );
  }

  #callModel({ operation, offset, length, unmap, data }: BlockRequest): void | Promise<void> {
    const model = this.#model;
    switch (operation) {
      case 'read':
        return model.read(offset, data!);
      case 'write':
        return this.#stored(model.write!(offset, data!));
      case 'flush':
        return model.flush?.();
      case 'discard':
        return model.discard!(offset, length);
      case 'writeZeroes':
        return this.#stored(
          model.writeZeroes ? model.writeZeroes(offset, length, unmap) : this.#zero(offset, length),
        );
      default:
        return undefined;
    }
  }

  /** A write has ended when it is durable if the driver did not accept FLUSH: it will never ask for it. */
  #stored(written: void | Promise<void>): void | Promise<void> {
    const { flush } = this.#model;
    if (!flush || this.#block.negotiated(VIRTIO_BLK_F_FLUSH)) return written;
    return Promise.resolve(written).then(() => flush.call(this.#model));
  }

  async #zero(offset: number, length: number): Promise<void> {
    // A fresh array each time: the model may keep what it is given.
    for (let done = 0; done < length; done += BOUNCE_BYTES)
      await this.#model.write!(offset + done, new Uint8Array(Math.min(length - done, BOUNCE_BYTES)));
  }

  #finished(request: BlockRequest): void {
    this.#done.push(request);
    this.#hooks.schedule();
  }

  #failed(request: BlockRequest, error: unknown): void {
    this.#fail(request);
    this.#finished(request);
    this.#hooks.failed(error);
  }

  #fail(request: BlockRequest): void {
    request.status = VIRTIO_BLK_S_IOERR;
    count(this.#aperture, this.#block.vq, VQ_IO_ERRORS, 1n);
  }
}
