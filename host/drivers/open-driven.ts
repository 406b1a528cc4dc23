import { VIRTQUEUE_MAX_SIZE } from '../../assembly/virtio.js';
import { abortError, RingbellError } from '../errors.js';
import type { FlightRecorderOptions } from '../flight.js';
import {
  checkBoolean,
  checkBus,
  checkMode,
  checkOptions,
  checkQueueSize,
  checkSignal,
  flightRecorderPlan,
} from '../options.js';
import { openVhostVdpaFile, type VhostVdpaBus } from '../vhost-vdpa/open.js';
import type { CompletionMode } from './completion-watch.js';
import type { DrivenDevice } from './driven-device.js';
import { VirtioDriver, type VirtioDriverOptions } from './virtio-driver.js';

/** Entries that a queue has unless more or fewer are asked for. */
const QUEUE_SIZE_DEFAULT = 256;

/** How to open a device whose queues are of buffers: a network device, a console, a source of entropy. */
export interface OpenOptions {
  /** Where names without a slash are looked up. */
  bus?: VhostVdpaBus | undefined;
  /** Entries of each queue, which is as many buffers: a power of two. Default 256, or what the device has if that is less. */
  queueSize?: number | undefined;
  /** Entries that `resetQueue` can give a queue at most: memory is taken for as many. Default `queueSize`. */
  maxQueueSize?: number | undefined;
  /** 'notify' (default): completions by interrupt; 'poll': by looking on each turn of the event loop while any are due. */
  mode?: CompletionMode | undefined;
  /** Whether to use the event index where the device has it: fewer notifications. Default true. */
  eventIdx?: boolean | undefined;
  /** Whether to use packed rings where the device has them. Default true. */
  packed?: boolean | undefined;
  /** Whether to have packed rings used in order where the device does that: it tells of a batch at once. Default true. */
  inOrder?: boolean | undefined;
  /** Whether to kick by a mapped doorbell page where the device has one. Default true. */
  doorbell?: boolean | undefined;
  /**
   * Whether the device is to see bounce buffers in place of the driver's memory: what is on its way, and nothing beside it.
   * Default false.
   */
  bounce?: boolean | undefined;
  /** Whether, and how, to record what the queues have done last, for when the device breaks. Default false. */
  flightRecorder?: boolean | FlightRecorderOptions | undefined;
  /** Gives opening up; afterwards closes the device. */
  signal?: AbortSignal | undefined;
}

const OPTION_NAMES = [
  'bus',
  'queueSize',
  'maxQueueSize',
  'mode',
  'eventIdx',
  'packed',
  'inOrder',
  'doorbell',
  'bounce',
  'flightRecorder',
  'signal',
];

/** Judges the options of `caller`, which has those of the names `besides`, too. Throws TypeError, ERR_ARGUMENT. */
export function checkOpenOptions(
  caller: string,
  options: OpenOptions,
  besides: readonly string[] = [],
): void {
  checkOptions(caller, options, [...OPTION_NAMES, ...besides]);
  checkSignal(options.signal);
  checkBus(options.bus, ['openVhostVdpa']);
  checkQueueSizes(options, 1);
  checkBoolean('bounce', options.bounce);
  checkMode(options.mode);
  flightRecorderPlan(options.flightRecorder);
}

/**
 * Opens a device of any type: `setUp` gets a driver that has agreed on features, reads the config space, sets memory and
 * queues up and makes the object for the application. If anything fails, or the signal aborts, nothing is left open.
 */
export async function openDriven<D extends DrivenDevice<unknown>>(
  target: string,
  options: Pick<OpenOptions, 'bus' | 'flightRecorder' | 'signal'>,
  plan: VirtioDriverOptions & { setUp(driver: VirtioDriver): Promise<D> },
): Promise<D> {
  const { signal } = options;
  if (signal?.aborted) throw abortError(signal);
  const file = await openVhostVdpaFile(target, options.bus);
  const driver = await VirtioDriver.connect(file, plan, flightRecorderPlan(options.flightRecorder));
  let device: D | undefined;
  try {
    device = await plan.setUp(driver);
    await device.start();
    if (signal?.aborted) throw abortError(signal);
    if (signal) closeOn(signal, device);
    return device;
  } catch (error) {
    await driver.device.fail().catch(() => {});
    await (device ?? driver).close().catch(() => {});
    throw error;
  }
}

/** Options of a driver that say how long its queues are to be. */
export interface QueueSizeOptions {
  queueSize?: number | undefined;
  maxQueueSize?: number | undefined;
}

/** Judges them: throws ERR_ARGUMENT unless they are powers of two from `low`, the first not above the second. */
export function checkQueueSizes({ queueSize, maxQueueSize }: QueueSizeOptions, low: number): void {
  checkQueueSize('maxQueueSize', maxQueueSize, low, VIRTQUEUE_MAX_SIZE);
  checkQueueSize('queueSize', queueSize, low, maxQueueSize ?? VIRTQUEUE_MAX_SIZE);
}

/**
 * Entries for each of the first `queues` queues: those wanted, or as many as usual and the device has; and what they can be
 * given later at most, no more than these unless it is wanted. Rejects with ERR_NOT_SUPPORTED where a queue has fewer, or
 * fewer than `least`.
 */
export async function chooseQueueSizes(
  driver: VirtioDriver,
  wanted: QueueSizeOptions,
  queues: number,
  least: number,
): Promise<{ queueSize: number; maxQueueSize: number }> {
  const { device } = driver;
  let most = Number.POSITIVE_INFINITY;
  for (let index = 0; index < queues; index++) most = Math.min(most, await device.maxQueueSize(index));
  for (const option of ['queueSize', 'maxQueueSize'] as const)
    if ((wanted[option] ?? 0) > most)
      throw new RingbellError(
        'ERR_NOT_SUPPORTED',
        `${option}: queues of ${device.name} have at most ${most} entries, not ${wanted[option]}`,
      );
  const usual = Math.min(most, wanted.maxQueueSize ?? most, QUEUE_SIZE_DEFAULT);
  // The kernel takes powers of two only, whatever the device's maximum.
  const size = wanted.queueSize ?? 2 ** Math.floor(Math.log2(usual));
  if (size < least)
    throw new RingbellError(
      'ERR_NOT_SUPPORTED',
      `queues of ${device.name} have ${most} entries: too few for one request`,
    );
  return { queueSize: size, maxQueueSize: wanted.maxQueueSize ?? size };
}

function closeOn(signal: AbortSignal, device: DrivenDevice<unknown>): void {
  const close = () => void device.close().catch(() => {});
  signal.addEventListener('abort', close, { once: true });
  device.once('close', () => signal.removeEventListener('abort', close));
}
