import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { release } from 'node:os';
import type { Writable } from 'node:stream';
import { inspect } from 'node:util';
import { RingbellError } from '../errors.js';
import {
  type CaptureInterface,
  type Direction,
  enhancedPacketBytes,
  type FrameRecord,
  interfaceDescription,
  interfaceStatistics,
  sectionHeader,
  type TimeStamp,
  writeEnhancedPacket,
} from './pcapng.js';

/** Bytes of frames that wait to be written, at most: what a slow disk or reader does not take in time is dropped, and counted. */
export const CAPTURE_BUFFER_BYTES = 8 * 2 ** 20;
/** Bytes of one piece of memory that frames are gathered in. */
const CHUNK_BYTES = 2 ** 16;
/** Milliseconds that a reader has to take what is left when a capture is closed. */
const CLOSE_TIMEOUT_MS = 10_000;

/** What has come of a capture so far. */
export interface CaptureStats {
  /** Frames in the file, or on their way there. */
  frames: number;
  /** Frames that are not: too many waited already, or the file failed. */
  dropped: number;
  /** Why nothing is written any more, such as a full disk; the device goes on. */
  error: Error | undefined;
}

/** Where frames go: a path, which is written anew, or a stream, which stays open. */
export type CaptureTarget = string | Writable;

/** Throws ERR_ARGUMENT for an empty path, or a stream of objects; TypeError for what is neither path nor stream. */
export function checkCapture(target: unknown): void {
  if (target === undefined) return;
  if (target === '') throw new RingbellError('ERR_ARGUMENT', 'capture must be a path, or a stream');
  if (typeof target === 'string') return;
  const stream = target as Partial<Writable> | null;
  if (typeof stream !== 'object' || typeof stream?.write !== 'function' || typeof stream.on !== 'function')
    throw new TypeError(`capture must be a path, or a Writable, not ${inspect(target, { depth: 0 })}`);
  if (stream.writableObjectMode)
    throw new RingbellError('ERR_ARGUMENT', 'capture must be a stream of bytes, not of objects');
}

/**
 * Writes frames of network devices to a pcapng file as they pass. Nobody ever waits for it: what cannot be written in time is
 * dropped and counted, in the file, too. `record` copies the frame, once.
 */
export class FrameCapture {
  readonly #stream: Writable;
  /** The stream is ours, and ends with the capture. */
  readonly #owned: boolean;
  /** Nanoseconds from the origin of `process.hrtime` to 1970. */
  readonly #epoch: bigint;
  readonly #time: TimeStamp = { high: 0, low: 0 };
  /** By interface: frames seen, frames dropped, and those of the latter that the file does not tell of yet. */
  readonly #counts: { seen: number; dropped: number; untold: number }[];
  readonly #fail = (error: Error) => {
    this.#error ??= error;
    // What was on its way fails with it.
    this.#pending = 0;
  };
  #chunk = Buffer.alloc(0);
  /** Bytes of the chunk that are in use. */
  #used = 0;
  /** Bytes that the stream has been given, and has not written yet. */
  #pending = 0;
  #scheduled = false;
  #error: Error | undefined;
  #closing: Promise<void> | undefined;

  /** Opens `target` and writes the descriptions. Rejects with the SystemError of a path that cannot be written to. */
  static async open(target: CaptureTarget, interfaces: readonly CaptureInterface[]): Promise<FrameCapture> {
    const capture = FrameCapture.start(target, interfaces);
    if (capture.#owned) await once(capture.#stream, 'open');
    return capture;
  }

  /** The same for whoever cannot wait: `stats` has the error of a path that cannot be written to. */
  static start(target: CaptureTarget, interfaces: readonly CaptureInterface[]): FrameCapture {
    if (typeof target !== 'string') return new FrameCapture(target, false, interfaces);
    // Frames are whatever people say to each other.
    return new FrameCapture(createWriteStream(target, { mode: 0o600 }), true, interfaces);
  }

  private constructor(stream: Writable, owned: boolean, interfaces: readonly CaptureInterface[]) {
    this.#stream = stream;
    this.#owned = owned;
    this.#counts = interfaces.map(() => ({ seen: 0, dropped: 0, untold: 0 }));
    const now = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e3)) * 1000n;
    this.#epoch = now - process.hrtime.bigint();
    stream.on('error', this.#fail);
    this.#write(
      Buffer.concat([
        sectionHeader('ringbell', `Linux ${release()}`),
        ...interfaces.map((each) => interfaceDescription(each)),
      ]),
    );
  }

  get stats(): CaptureStats {
    const dropped = this.#counts.reduce((sum, count) => sum + count.dropped, 0);
    const seen = this.#counts.reduce((sum, count) => sum + count.seen, 0);
    return { frames: seen - dropped, dropped, error: this.#error };
  }

  /** Frames recorded from now on have passed at this moment. Once a burst: it costs more than a frame. */
  stamp(): void {
    const now = this.#epoch + process.hrtime.bigint();
    this.#time.high = Number(now >> 32n);
    this.#time.low = Number(now & 0xffffffffn);
  }

  /** Takes a frame of interface `interfaceId` that passes by `queue`. */
  record(interfaceId: number, direction: Direction, queue: number, frame: Uint8Array): void {
    const count = this.#counts[interfaceId]!;
    count.seen++;
    const bytes = enhancedPacketBytes(frame.byteLength, count.untold);
    if (this.#closing || this.#error || this.#pending + this.#used + bytes > CAPTURE_BUFFER_BYTES) {
      count.dropped++;
      count.untold++;
      return;
    }
    if (this.#used + bytes > this.#chunk.byteLength) {
      this.#flush();
      this.#chunk = Buffer.allocUnsafe(Math.max(CHUNK_BYTES, bytes));
    }
    const record: FrameRecord = { interfaceId, direction, queue, time: this.#time, dropped: count.untold };
    writeEnhancedPacket(this.#chunk.subarray(this.#used, this.#used + bytes), frame, record);
    count.untold = 0;
    this.#used += bytes;
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  /** Writes what is left, then what was counted, and closes the file. Never rejects: `stats` has the error. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#flush();
    this.stamp();
    const counts = this.#counts.map(({ seen, dropped }, id) =>
      interfaceStatistics(id, this.#time, seen, dropped),
    );
    if (!this.#error) {
      const written = new Promise<void>((resolve) => this.#write(Buffer.concat(counts), resolve));
      const ended = this.#owned ? new Promise<void>((resolve) => this.#stream.end(resolve)) : written;
      let timer: NodeJS.Timeout | undefined;
      const timeout = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, CLOSE_TIMEOUT_MS);
      });
      await Promise.race([ended, timeout]);
      clearTimeout(timer);
    }
    if (this.#owned) this.#stream.destroy();
    else this.#stream.off('error', this.#fail);
  }

  /** Gives the stream what the chunk holds. The rest of the chunk is used on. */
  #flush(): void {
    if (this.#used === 0) return;
    const written = this.#chunk.subarray(0, this.#used);
    this.#chunk = this.#chunk.subarray(this.#used);
    this.#used = 0;
    this.#write(written);
  }

  #write(bytes: Buffer, done?: () => void): void {
    if (this.#error) return;
    this.#pending += bytes.byteLength;
    this.#stream.write(bytes, (error) => {
      if (error) this.#fail(error);
      else this.#pending -= bytes.byteLength;
      done?.();
    });
  }
}

/** The frames of one pair of queues, and of one of its directions: where a queue leaves them. */
export class FrameTap {
  readonly #capture: FrameCapture;
  readonly #interfaceId: number;
  readonly #direction: Direction;
  readonly #queue: number;

  constructor(capture: FrameCapture, interfaceId: number, direction: Direction, queue: number) {
    this.#capture = capture;
    this.#interfaceId = interfaceId;
    this.#direction = direction;
    this.#queue = queue;
  }

  /** A burst of frames begins: they pass at the same moment. */
  begin(): void {
    this.#capture.stamp();
  }

  record(frame: Uint8Array): void {
    this.#capture.record(this.#interfaceId, this.#direction, this.#queue, frame);
  }
}
