import { setImmediate as nextTurn } from 'node:timers/promises';
import { HeapMeter } from './heap-meter.js';
import { type Latency, LatencyHistogram } from './latency-histogram.js';

export type Mode = 'poll' | 'notify';
export type Operation = 'read' | 'write';

/** Milliseconds for which a polling driver keeps the event loop from timers and signals. */
const STRETCH_MS = 20;
/** Looks at an empty ring before a reap gives up: some milliseconds, longer than a thread usually waits for a processor. */
const REAP_SPINS = 2 ** 20;
/** Milliseconds without any completion after which a device counts as dead. */
const STALLED_MS = 10_000;
/** Every so many stretches one runs without a clock, for the heap: reading the clock allocates a number. */
const HEAP_STRETCH_INTERVAL = 8;
/** Requests of such a stretch: few enough that wasteful code, too, ends it before a garbage collection does. */
const HEAP_STRETCH_REQUESTS = 4096;
/** Bytes of such a stretch, at most: it must not keep the event loop for long. */
const HEAP_STRETCH_BYTES = 2 ** 26;

/** What a measurement needs of a batch: the allocation-free call of a disk's queue. */
export interface MeasuredBatch {
  read(offset: number, data: Uint8Array, tag: number): void;
  write(offset: number, data: Uint8Array, tag: number): void;
  submit(): number;
  reap(min?: number, spins?: number): number;
  tag(index: number): number;
  status(index: number): number;
  /** Resolves when completions wait. */
  wait(): Promise<void>;
}

/** What the two sides count, summed over their queues. */
export interface Counters {
  /** Kicks and interrupts that were sent. */
  notifications: number;
  /** Calls between JavaScript and WASM or the addon, and system calls, on the data path. */
  crossings: number;
}

/** What is measured, and on what. */
export interface Workload {
  operation: Operation;
  mode: Mode;
  /** One per queue. */
  batches: readonly MeasuredBatch[];
  /** Memory that the device sees: one buffer of a block per request in flight. */
  buffers: readonly (readonly Uint8Array[])[];
  blockBytes: number;
  capacity: number;
  seconds: number;
  counters(): Counters;
}

/** What came out. */
export interface Result {
  mode: Mode;
  operation: Operation;
  iops: number;
  bytesPerSecond: number;
  /** Microseconds from submission to reaping, as the program sees them. */
  latency: Latency;
  notificationsPerRequest: number;
  crossingsPerRequest: number;
  requests: number;
  seconds: number;
  /** Bytes that one request takes from the V8 heap; null where it was not measured. */
  heapBytesPerRequest: number | null;
}

/** The requests in flight of one queue, at random offsets. Nothing here allocates once it is made. */
class Lane {
  readonly batch: MeasuredBatch;
  /** Requests completed. */
  completed = 0;
  readonly #write: boolean;
  readonly #buffers: readonly Uint8Array[];
  readonly #blocks: number;
  readonly #blockBytes: number;
  readonly #histogram: LatencyHistogram;
  /** When the request of a tag was submitted, in milliseconds; 0 where no clock was read. */
  readonly #submitted: Float64Array;
  readonly #idle: Int32Array;
  #idleCount: number;
  #random: number;

  constructor(workload: Workload, queue: number, histogram: LatencyHistogram) {
    this.batch = workload.batches[queue]!;
    this.#write = workload.operation === 'write';
    this.#buffers = workload.buffers[queue]!;
    this.#blockBytes = workload.blockBytes;
    this.#blocks = Math.floor(workload.capacity / workload.blockBytes);
    this.#histogram = histogram;
    const depth = this.#buffers.length;
    this.#submitted = new Float64Array(depth);
    this.#idle = Int32Array.from({ length: depth }, (_, tag) => tag);
    this.#idleCount = depth;
    this.#random = queue + 1;
  }

  /** Requests in flight. */
  get inFlight(): number {
    return this.#buffers.length - this.#idleCount;
  }

  /** Fills the queue up to its depth and submits. */
  fill(now: number): void {
    if (this.#idleCount === 0) return;
    while (this.#idleCount > 0) {
      const tag = this.#idle[--this.#idleCount]!;
      const offset = this.#nextBlock() * this.#blockBytes;
      this.#submitted[tag] = now;
      if (this.#write) this.batch.write(offset, this.#buffers[tag]!, tag);
      else this.batch.read(offset, this.#buffers[tag]!, tag);
    }
    this.batch.submit();
  }

  /** Takes in the `count` completions that a reap found. */
  collect(count: number, now: number): void {
    for (let i = 0; i < count; i++) {
      const tag = this.batch.tag(i);
      if (this.batch.status(i) !== 0)
        throw new Error(
          `the device answered a ${this.#write ? 'write' : 'read'} with status ${this.batch.status(i)}`,
        );
      const submitted = this.#submitted[tag]!;
      if (now !== 0 && submitted !== 0) this.#histogram.record(now - submitted);
      this.#idle[this.#idleCount++] = tag;
    }
    this.completed += count;
  }

  /** A block at random: xorshift32, scaled down without a division. */
  #nextBlock(): number {
    let random = this.#random;
    random ^= random << 13;
    random ^= random >>> 17;
    random ^= random << 5;
    this.#random = random;
    return Math.floor(((random >>> 0) / 2 ** 32) * this.#blocks);
  }
}

/** Keeps every queue full for the workload's seconds. `follow` hears how much of them is over. */
export async function measure(
  workload: Workload,
  signal: AbortSignal,
  follow: (fraction: number) => void,
): Promise<Result> {
  const histogram = new LatencyHistogram();
  const heap = new HeapMeter();
  const lanes = workload.batches.map((_, queue) => new Lane(workload, queue, histogram));
  const before = workload.counters();
  const begin = performance.now();
  const clock: Clock = { begin, end: begin + workload.seconds * 1000, signal, follow };
  const drive =
    workload.mode === 'poll'
      ? poll(lanes, clock, heap, Math.min(HEAP_STRETCH_REQUESTS, HEAP_STRETCH_BYTES / workload.blockBytes))
      : Promise.all(lanes.map((lane) => sleepAndWake(lane, clock)));
  await unlessStalled(drive, lanes, clock);
  const seconds = (performance.now() - begin) / 1000;
  const after = workload.counters();
  const requests = lanes.reduce((sum, lane) => sum + lane.completed, 0);
  return {
    mode: workload.mode,
    operation: workload.operation,
    iops: requests / seconds,
    bytesPerSecond: (requests * workload.blockBytes) / seconds,
    latency: histogram.latency(),
    notificationsPerRequest: (after.notifications - before.notifications) / requests,
    crossingsPerRequest: (after.crossings - before.crossings) / requests,
    requests,
    seconds,
    heapBytesPerRequest: heap.bytesPerRequest(),
  };
}

/** Milliseconds of performance.now between which requests are submitted, and who wants to know. */
interface Clock {
  begin: number;
  end: number;
  signal: AbortSignal;
  follow(fraction: number): void;
}

/** Polls all queues in turn; the event loop gets its turn between two stretches. */
async function poll(
  lanes: readonly Lane[],
  clock: Clock,
  heap: HeapMeter,
  heapRequests: number,
): Promise<void> {
  for (let stretch = 0; ; stretch++) {
    const now = performance.now();
    if (now >= clock.end) break;
    if (stretch % HEAP_STRETCH_INTERVAL === HEAP_STRETCH_INTERVAL - 1) {
      heap.begin();
      heap.end(pollRequests(lanes, heapRequests));
    } else {
      pollUntil(lanes, Math.min(now + STRETCH_MS, clock.end));
    }
    clock.follow((now - clock.begin) / (clock.end - clock.begin));
    await nextTurn();
    clock.signal.throwIfAborted();
  }
  for (const lane of lanes) await drain(lane);
}

/** One stretch by the clock. */
function pollUntil(lanes: readonly Lane[], end: number): void {
  for (let now = performance.now(); now < end; ) {
    for (let i = 0; i < lanes.length; i++) {
      lanes[i]!.fill(now);
      const count = reapHalf(lanes[i]!);
      now = performance.now();
      lanes[i]!.collect(count, now);
    }
  }
}

/** One stretch of about `requests` requests without a look at the clock: requests completed. */
function pollRequests(lanes: readonly Lane[], requests: number): number {
  let completed = 0;
  // A device that stops answering ends the stretch at the first turn that brings nothing.
  for (let before = -1; completed < requests && completed !== before; ) {
    before = completed;
    for (let i = 0; i < lanes.length; i++) {
      lanes[i]!.fill(0);
      const count = reapHalf(lanes[i]!);
      lanes[i]!.collect(count, 0);
      completed += count;
    }
  }
  return completed;
}

/** Reaps when half of what is in flight has come back: fewer crossings than at each completion, and the ring never runs dry. */
function reapHalf(lane: Lane): number {
  return lane.batch.reap((lane.inFlight + 1) >> 1, REAP_SPINS);
}

/** Drives one queue by notifications: asleep whenever nothing has come back. */
async function sleepAndWake(lane: Lane, clock: Clock): Promise<void> {
  for (;;) {
    const now = performance.now();
    clock.signal.throwIfAborted();
    if (now >= clock.end) break;
    clock.follow((now - clock.begin) / (clock.end - clock.begin));
    lane.fill(now);
    await reapAwake(lane);
  }
  await drain(lane);
}

/** Takes in what has come back, waiting for it where there is nothing yet. */
async function reapAwake(lane: Lane): Promise<void> {
  let count = lane.batch.reap();
  if (count === 0) {
    await lane.batch.wait();
    count = lane.batch.reap();
  }
  lane.collect(count, performance.now());
}

/** Takes in everything that is still in flight. */
async function drain(lane: Lane): Promise<void> {
  while (lane.inFlight > 0) await reapAwake(lane);
}

/** Waits for `drive`, but no longer than the device answers. */
async function unlessStalled(drive: Promise<unknown>, lanes: readonly Lane[], clock: Clock): Promise<void> {
  let seen = -1;
  let timer: NodeJS.Timeout | undefined;
  const stalled = new Promise<never>((_, reject) => {
    timer = setInterval(() => {
      const completed = lanes.reduce((sum, lane) => sum + lane.completed, 0);
      if (completed === seen) reject(new Error(`no request was answered for ${STALLED_MS / 1000} s`));
      seen = completed;
    }, STALLED_MS);
  });
  try {
    await Promise.race([drive, stalled]);
  } finally {
    clearInterval(timer);
    // Whatever still runs after a failure ends at its next turn.
    clock.end = 0;
  }
}
