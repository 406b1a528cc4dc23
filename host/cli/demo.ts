import { availableParallelism } from 'node:os';
import { BlockDevice, type BlockDisk, Bus, openBlock, type ServedDevice, serve } from '../index.js';
import { type Arguments, type Command, UsageError } from './arguments.js';
import { givenImage, type Image, makeImage, makeScratchImage, SECTOR_BYTES } from './image.js';
import { describeMachine } from './machine.js';
import { type Mode, measure, type Operation, type Result } from './measurement.js';
import { MemoryMonitor } from './memory-monitor.js';
import { type DemoReport, reportLines } from './report.js';
import { TemporaryDirectory } from './temporary-directory.js';
import { Progress } from './terminal.js';
import { formatBytes } from './units.js';
import { type ReadVerification, verifyReads, verifyWrites, type WriteVerification } from './verification.js';

const MODES: readonly Mode[] = ['poll', 'notify'];
/** Bytes of the scratch image, at most, that is written on in place of a user's own. */
const SCRATCH_BYTES = 256 * 2 ** 20;
/** Bytes of the largest image that is mapped into the aperture and served wholly in WASM; a larger one takes file I/O. */
const MAPPED_BYTES = 3 * 2 ** 30;
/** Bytes that all requests in flight may take. */
const BUFFER_BYTES = 256 * 2 ** 20;
/** Entries of the smallest ring that is asked for. */
const QUEUE_SIZE_MINIMUM = 64;

/** What the options ask for. */
interface Plan {
  image: Image | undefined;
  imageBytes: number;
  queues: number;
  queueDepth: number;
  blockBytes: number;
  seconds: number;
  modes: readonly Mode[];
}

/** `ringbell demo` */
export const demo: Command = {
  name: 'demo',
  summary: 'serve a disk image and drive it: verify every byte, then measure',
  description:
    'Serves a disk image by a device model in one WASM sandbox and drives it by a virtio driver in another. Reads all of it\n' +
    'through the rings and compares SHA-256 with the file, writes and reads back, then measures reads and writes.\n' +
    'An image of your own is only read: writes go to a scratch image in a temporary directory.',
  options: {
    image: {
      value: 'FILE',
      help: 'image to serve; without it one is made, with real files in it where mke2fs is',
    },
    size: { value: 'BYTES', default: '256M', help: 'size of the image that is made' },
    queues: { value: 'N', default: '1', help: 'virtqueues' },
    'queue-depth': { value: 'N', default: '64', help: 'requests in flight on each queue' },
    'block-size': { value: 'BYTES', default: '4k', help: 'bytes of each request' },
    seconds: { value: 'N', default: '2', help: 'duration of each measurement' },
    mode: {
      value: 'poll|notify',
      help: 'how both sides wait for each other (default: both, one after the other)',
    },
    json: { help: 'print one JSON object' },
  },
  async run(values, signal) {
    const plan = planOf(values);
    const directory = new TemporaryDirectory();
    const progress = new Progress();
    try {
      const report = await carryOut(plan, directory, progress, signal);
      progress.clear();
      process.stdout.write(
        values.flag('json')
          ? `${JSON.stringify(report, null, 2)}\n`
          : `${reportLines(report, process.stdout).join('\n')}\n`,
      );
      return 0;
    } finally {
      progress.clear();
      directory.remove();
    }
  },
};

/** Reads the options. Throws UsageError for what cannot be done. */
function planOf(values: Arguments): Plan {
  if (values.given('image') && values.given('size'))
    throw new UsageError('--size: an image of your own has its size; leave out --image or --size');
  const blockBytes = values.bytes('block-size', {
    minimum: SECTOR_BYTES,
    maximum: 2 ** 20,
    multiple: SECTOR_BYTES,
  });
  const plan: Omit<Plan, 'image' | 'imageBytes'> = {
    queues: values.count('queues', { minimum: 1, maximum: 16 }),
    queueDepth: values.count('queue-depth', { minimum: 1, maximum: 1024 }),
    blockBytes,
    seconds: values.seconds('seconds', { minimum: 0.1, maximum: 86_400 }),
    modes: [values.choice('mode', MODES) ?? MODES].flat(),
  };
  if (plan.queues * plan.queueDepth * blockBytes > BUFFER_BYTES)
    throw new UsageError(
      `--block-size ${formatBytes(blockBytes)} × --queue-depth ${plan.queueDepth} × --queues ${plan.queues}: more than ${formatBytes(BUFFER_BYTES)} in flight`,
    );
  const path = values.text('image');
  const image = path === undefined ? undefined : givenImage('image', path);
  const imageBytes =
    image?.bytes ?? values.bytes('size', { minimum: 2 ** 20, maximum: 2 ** 40, multiple: SECTOR_BYTES });
  if (imageBytes < blockBytes)
    throw new UsageError(
      `--block-size ${formatBytes(blockBytes)}: the image has only ${formatBytes(imageBytes)}`,
    );
  return { ...plan, image, imageBytes };
}

/** Makes the images, verifies and measures. */
async function carryOut(
  plan: Plan,
  directory: TemporaryDirectory,
  progress: Progress,
  signal: AbortSignal,
): Promise<DemoReport> {
  progress.step('making the image');
  const image = plan.image ?? (await makeImage(directory, plan.imageBytes, signal));
  const writable = plan.image
    ? await makeScratchImage(directory, Math.min(plan.imageBytes, SCRATCH_BYTES))
    : image;
  const memory = new MemoryMonitor();
  const results: Result[] = [];
  let read: ReadVerification | undefined;
  let written: WriteVerification | undefined;

  for (const mode of plan.modes) {
    await withDisk(image, true, plan, mode, signal, async (session) => {
      progress.step(`reading all of it through the rings, ${mode} mode`);
      read = await verifyReads(session.disk, image.path, session.signal, (part) => progress.done(part));
      requireEqual(read, 'what came through the rings differs from the file');
      results.push(await measureSession(session, 'read', plan, memory, progress));
    });
    await withDisk(writable, false, plan, mode, signal, async (session) => {
      progress.step(`writing and reading back, ${mode} mode`);
      written = await verifyWrites(session.disk, writable.path, session.signal, (part) =>
        progress.done(part),
      );
      requireEqual(written, 'what was written came back different');
      progress.step(`reading all of it again, ${mode} mode`);
      const after = await verifyReads(session.disk, writable.path, session.signal, (part) =>
        progress.done(part),
      );
      requireEqual(after, 'after writing, what came through the rings differs from the file');
      results.push(await measureSession(session, 'write', plan, memory, progress));
    });
  }

  const heap = results.find((result) => result.heapBytesPerRequest !== null)?.heapBytesPerRequest ?? null;
  return {
    machine: describeMachine(),
    image: {
      path: image.path,
      bytes: image.bytes,
      kind: image.kind,
      contents: image.contents,
      sha256: read!.fileSha256,
    },
    settings: {
      queues: plan.queues,
      queueDepth: plan.queueDepth,
      blockBytes: plan.blockBytes,
      secondsEach: plan.seconds,
      mapped: isMapped(image),
    },
    verified: { read: read!, written: written! },
    results,
    memory: memory.report(heap),
  };
}

/** Verification that fails is the end: numbers of a disk that is wrong are worth nothing. */
function requireEqual(verification: { equal: boolean; firstDifference: number | null }, what: string): void {
  if (!verification.equal) throw new Error(`${what}, first at byte ${verification.firstDifference}`);
}

/** A disk that is served and open. */
interface Session {
  device: ServedDevice;
  disk: BlockDisk;
  mode: Mode;
  /** Aborts on Ctrl-C and when either side breaks. */
  signal: AbortSignal;
}

/** Serves an image, opens it, hands both to `use`, and closes both whatever happened. */
async function withDisk(
  image: Image,
  readOnly: boolean,
  plan: Plan,
  mode: Mode,
  signal: AbortSignal,
  use: (session: Session) => Promise<void>,
): Promise<void> {
  signal.throwIfAborted();
  const queueSize = 2 ** Math.ceil(Math.log2(Math.max(QUEUE_SIZE_MINIMUM, plan.queueDepth)));
  const broken = new AbortController();
  const fail = (error: Error) => broken.abort(error);
  const { queues } = plan;
  // The driver takes a processor for itself: with more threads, the two sides would push each other off.
  const threads = Math.min(queues, Math.max(1, availableParallelism() - 1));
  const allocBytes = queues * plan.queueDepth * plan.blockBytes;
  const model = new BlockDevice({
    file: image.path,
    mapped: isMapped(image),
    allocate: !readOnly,
    readOnly,
  });
  const bus = new Bus();
  try {
    const device = await serve(model, { bus, name: 'demo', queues, queueSize, threads, mode });
    device.on('error', fail);
    try {
      const disk = await openBlock(device.name, { bus, queues, queueSize, mode, allocBytes });
      disk.on('error', fail);
      try {
        await use({ device, disk, mode, signal: AbortSignal.any([signal, broken.signal]) });
      } finally {
        await disk.close();
      }
    } finally {
      await device.close();
    }
  } finally {
    await bus.close();
  }
}

function isMapped(image: Image): boolean {
  return image.bytes <= MAPPED_BYTES;
}

/** Measures one operation on an open disk. */
async function measureSession(
  session: Session,
  operation: Operation,
  plan: Plan,
  memory: MemoryMonitor,
  progress: Progress,
): Promise<Result> {
  const { device, disk, mode, signal } = session;
  progress.step(`measuring ${operation}s, ${mode} mode`);
  const queues = Array.from({ length: plan.queues }, (_, queue) => queue);
  memory.start(plan.seconds);
  try {
    return await measure(
      {
        operation,
        mode,
        batches: queues.map((queue) => disk.batch({ queue })),
        buffers: queues.map(() => Array.from({ length: plan.queueDepth }, () => disk.alloc(plan.blockBytes))),
        blockBytes: plan.blockBytes,
        capacity: disk.capacity,
        seconds: plan.seconds,
        counters: () => {
          const driver = disk.stats();
          const served = device.stats();
          return {
            notifications: driver.kicks + served.interrupts,
            crossings: driver.crossings + served.crossings,
          };
        },
      },
      signal,
      (part) => progress.done(part),
    );
  } finally {
    memory.stop();
  }
}
