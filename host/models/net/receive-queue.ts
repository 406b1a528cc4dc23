import type { FrameTap } from '../../observability/frame-capture.js';
import { VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_HDR_SIZE, virtioNetHdrV1 } from '../../uapi/virtio.js';
import type { Chain } from '../chain.js';
import type { ModelQueue } from '../model-queue.js';
import { canSegment, fillInChecksum, type NetHeader, visibleFlags, wantsChecksum } from './net-header.js';
import type { NetStats } from './net-stats.js';

/** Frames, and bytes of frames, that wait for buffers at most: a driver gives them a little later than it sends. */
const WAITING_FRAMES = 256;
const WAITING_BYTES = 2 ** 22;
/** Buffers that one frame may lie in: as many as are made used together. */
const MERGED_BUFFERS = 64;

interface WaitingFrame {
  readonly frame: Uint8Array;
  readonly header: NetHeader;
}

/** A receive queue of a network device: buffers that wait for frames, or frames that wait for buffers. */
export class ReceiveQueue {
  readonly #stats: NetStats;
  /** Frames that have reached their driver. */
  readonly #tap: FrameTap | undefined;
  /** Told that there is room again, after `hasRoom` has said no. */
  readonly #roomAgain: () => void;
  /** Its queue; undefined before the driver has given it a buffer. */
  #queue: ModelQueue | undefined;
  #buffers: Chain[] = [];
  #waiting: WaitingFrame[] = [];
  #waitingBytes = 0;
  /** What `hasRoom` has said last. */
  #full = false;

  constructor(stats: NetStats, tap: FrameTap | undefined, roomAgain: () => void) {
    this.#stats = stats;
    this.#tap = tap;
    this.#roomAgain = roomAgain;
  }

  /** Whether no more than half of what may wait does: a burst of frames would not be dropped. */
  hasRoom(): boolean {
    this.#full = this.#waiting.length > WAITING_FRAMES / 2 || this.#waitingBytes > WAITING_BYTES / 2;
    return !this.#full;
  }

  /** Takes buffers that the driver has given. */
  offer(buffers: readonly Chain[], queue: ModelQueue): void {
    this.#queue = queue;
    for (const buffer of buffers) {
      const isBuffer = buffer.readableBytes === 0 && buffer.writableBytes >= VIRTIO_NET_HDR_SIZE;
      if (isBuffer) this.#buffers.push(buffer);
      else buffer.refuse();
    }
    let placed = 0;
    for (const { frame, header } of this.#waiting) {
      if (!this.#place(frame, header)) break;
      this.#waitingBytes -= frame.length;
      placed++;
    }
    this.#waiting.splice(0, placed);
    if (this.#full && this.hasRoom()) this.#roomAgain();
  }

  /** Hands a frame to the driver, now or when it gives buffers: false where the frame is dropped. */
  receive(frame: Uint8Array, header: NetHeader): boolean {
    const { dropped } = this;
    if (this.#waiting.length === 0 && this.#place(frame, header)) return this.dropped === dropped;
    if (this.#waiting.length >= WAITING_FRAMES || this.#waitingBytes + frame.length > WAITING_BYTES) {
      this.#stats.noBuffer++;
      return false;
    }
    this.#waiting.push({ frame, header });
    this.#waitingBytes += frame.length;
    return true;
  }

  /** Its driver has gone, or has reset the queue: neither buffers nor frames matter any more. */
  clear(): void {
    for (const buffer of this.#buffers.splice(0)) buffer.complete();
    this.#waiting.length = 0;
    this.#waitingBytes = 0;
    this.#queue = undefined;
  }

  private get dropped(): number {
    return this.#stats.notReceivable + this.#stats.notSegmented;
  }

  /** Puts a frame into buffers, or drops it: false where there are too few. */
  #place(frame: Uint8Array, header: NetHeader): boolean {
    const queue = this.#queue;
    if (!queue || this.#buffers.length === 0) return false;
    const negotiated = (bit: number) => queue.negotiated(bit);
    if (!canSegment(header, negotiated)) {
      this.#stats.notSegmented++;
      return true;
    }
    const bytes = VIRTIO_NET_HDR_SIZE + frame.length;
    const count = this.#buffersFor(bytes, negotiated(VIRTIO_NET_F_MRG_RXBUF));
    if (count === undefined) {
      this.#stats.notReceivable++;
      return true;
    }
    if (count > this.#buffers.length) return false;
    const whole = wantsChecksum(header, negotiated) ? fillInChecksum(frame, header) : frame;
    const flags = visibleFlags(header, negotiated);
    const front = virtioNetHdrV1.encode({ ...header, flags, num_buffers: count });
    const buffers = this.#buffers.splice(0, count);
    if (count === 1) fill(buffers[0]!, front, whole);
    else queue.together(() => spread(buffers, front, whole));
    this.#stats.received++;
    queue.countBytes(frame.length, 0);
    this.#tap?.begin();
    this.#tap?.record(whole);
    return true;
  }

  /**
   * How many buffers it takes to hold `bytes`, more than there are if they do not; undefined if no buffers like these ever
   * will. Without mergeable buffers that is one.
   */
  #buffersFor(bytes: number, mergeable: boolean): number | undefined {
    if (!mergeable) return this.#buffers[0]!.writableBytes >= bytes ? 1 : undefined;
    let room = 0;
    for (let count = 0; count < MERGED_BUFFERS; count++) {
      const buffer = this.#buffers[count];
      if (!buffer) return count + 1;
      room += buffer.writableBytes;
      if (room >= bytes) return count + 1;
    }
    return undefined;
  }
}

/** Puts header and frame into one buffer. */
function fill(buffer: Chain, front: Uint8Array, frame: Uint8Array): void {
  buffer.write(0, front);
  buffer.write(front.length, frame);
  buffer.complete(front.length + frame.length);
}

/** Puts header and frame into buffers that have room for them together, each up to its end. */
function spread(buffers: readonly Chain[], front: Uint8Array, frame: Uint8Array): void {
  const [first, ...others] = buffers as [Chain, ...Chain[]];
  let taken = first.writableBytes - front.length;
  fill(first, front, frame.subarray(0, taken));
  for (const buffer of others) {
    const part = frame.subarray(taken, taken + buffer.writableBytes);
    buffer.write(0, part);
    buffer.complete(part.length);
    taken += part.length;
  }
}
