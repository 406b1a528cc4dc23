import { availableParallelism } from 'node:os';
import { inspect } from 'node:util';
import { Bus } from './bus/index.js';
import { abortError, RingbellError } from './errors.js';
import type { DeviceModel } from './models/device-model.js';
import { type DeviceTransport, ServedDevice } from './models/served-device.js';
import { checkBus, checkOptions, checkSignal } from './options.js';
import { THREAD_QUEUES_LIMIT } from './queue/queue-thread.js';
import { VDUSE_NAME_MAX } from './uapi/vduse.js';
import { defaultLogPath } from './vduse/in-flight-log.js';
import { KernelVduseControlFile, vdpaDevice } from './vduse/kernel-file.js';

/** Queues of a device at most. */
const QUEUES_LIMIT = 64;
/** Entries; header, data and status of a request need three. */
const QUEUE_SIZE_MINIMUM = 4;
/** Entries; what keeps a queue's tables at some tens of kilobytes. */
const QUEUE_SIZE_LIMIT = 1024;

/** How a model is to be served. */
export interface ServeOptions {
  /** Name of the device on its bus; drivers open it by that. */
  name: string;
  /** 'bus' (default), the in-process vDPA bus, or 'vduse', the kernel's. */
  transport?: 'bus' | 'vduse';
  /** The in-process bus; the thread's default one if left out. */
  bus?: Bus;
  /** Virtqueues; 1 if left out, at most 64. */
  queues?: number;
  /** Entries of a queue at most: a power of two from 4 to 1024; 256 if left out. */
  queueSize?: number;
  /**
   * Threads that run the queues; 0 for the caller's event loop. If left out, one a queue up to the number of CPUs. A model
   * in JavaScript always runs on the event loop.
   */
  threads?: number;
  /** Of queue threads. 'notify' (default): sleep until the driver kicks; 'poll': watch the rings while there is traffic. */
  mode?: 'notify' | 'poll';
  /** Whether the in-process bus offers doorbell pages to drivers; 'none' if left out. */
  doorbell?: 'none' | 'page';
  /** How the in-process bus hands the driver's mappings on; 'set_map' if left out. */
  parent?: 'set_map' | 'dma_map';
  /**
   * Path of the in-flight log, a file by which another process can take the device over when this one is killed. Of 'vduse'
   * devices: `/run/ringbell/NAME` if left out; false for none. On the in-process bus: none if left out.
   */
  inFlightLog?: string | false;
  /** Closes the device when it aborts. */
  signal?: AbortSignal;
}

const OPTION_NAMES = [
  'name',
  'transport',
  'bus',
  'queues',
  'queueSize',
  'threads',
  'mode',
  'doorbell',
  'parent',
  'inFlightLog',
  'signal',
];

/**
 * Offers `model` to drivers under a name. Rejects with ERR_ARGUMENT for options or a model that cannot work, ERR_DEVICE_BUSY
 * for one that is being served, ERR_TAKE_OVER for a device of that name that cannot be taken over, EEXIST (a SystemError) for
 * one where no in-flight log is kept, ERR_DEVICE_BROKEN for one that nobody answered for, ERR_NOT_SUPPORTED without VDUSE,
 * ERR_CONTROL_PLANE where the transport refuses, ERR_APERTURE_FULL, an AbortError.
 */
export async function serve(model: DeviceModel, options: ServeOptions): Promise<ServedDevice> {
  check(model, options);
  const { name, queues = 1, queueSize = 256, mode = 'notify', doorbell = 'none', signal } = options;
  if (signal?.aborted) throw abortError(signal);
  const device = await ServedDevice.create(model, transportOf(options), {
    name,
    queues,
    queueSize,
    threads: Math.min(options.threads ?? Math.max(availableParallelism(), leastThreads(queues)), queues),
    poll: mode === 'poll',
    doorbell: doorbell === 'page',
    log: logOf(options),
  });
  if (!signal) return device;
  const abort = () => void device.close();
  if (signal.aborted) {
    await device.close();
    throw abortError(signal);
  }
  signal.addEventListener('abort', abort, { once: true });
  device.once('close', () => signal.removeEventListener('abort', abort));
  return device;
}

function logOf({ name, transport, inFlightLog }: ServeOptions): string | undefined {
  if (inFlightLog === undefined) return transport === 'vduse' ? defaultLogPath(name) : undefined;
  return inFlightLog === false ? undefined : inFlightLog;
}

function transportOf({ transport, bus = Bus.default, doorbell, parent }: ServeOptions): DeviceTransport {
  if (transport === 'vduse')
    return {
      control: new KernelVduseControlFile(),
      attach: (name) => vdpaDevice('add', name),
      detach: (name) => vdpaDevice('del', name),
    };
  return {
    control: bus.control(),
    attach: async (name) => {
      await bus.attach(name, { ...(doorbell && { doorbell }), ...(parent && { parent }) });
    },
    detach: (name) => bus.detach(name),
  };
}

/**
 * Judges the arguments. Throws TypeError for what is no model, options, signal or bus, ERR_ARGUMENT for options that make
 * no sense.
 */
function check(model: DeviceModel, options: ServeOptions): void {
  if (typeof model?.attach !== 'function')
    throw new TypeError(`model must be a BlockDevice or a BlockModel, not ${inspect(model)}`);
  checkOptions('serve', options, OPTION_NAMES);
  checkSignal(options.signal);
  checkBus(options.bus, ['control', 'attach', 'detach']);
  const refuse = (message: string) => {
    throw new RingbellError('ERR_ARGUMENT', message);
  };
  const { name, queues = 1, queueSize = 256, threads, transport = 'bus', mode = 'notify' } = options;
  const { doorbell = 'none', parent = 'set_map', inFlightLog } = options;
  const named = typeof name === 'string' && name !== '' && Buffer.byteLength(name) < VDUSE_NAME_MAX;
  if (!named || /[/\0]/.test(name))
    refuse(`name must be 1 to ${VDUSE_NAME_MAX - 1} bytes of UTF-8 without '/'`);
  checkInteger('queues', queues, 1, QUEUES_LIMIT);
  checkInteger('queueSize', queueSize, QUEUE_SIZE_MINIMUM, QUEUE_SIZE_LIMIT);
  if (queueSize & (queueSize - 1)) refuse(`queueSize must be a power of two, not ${queueSize}`);
  if (threads !== undefined && threads !== 0)
    checkInteger('threads', threads, leastThreads(queues), QUEUES_LIMIT, '0 or ');
  if (
    inFlightLog !== undefined &&
    inFlightLog !== false &&
    (typeof inFlightLog !== 'string' || inFlightLog === '')
  )
    refuse(`inFlightLog must be a path, or false, not ${inspect(inFlightLog)}`);
  checkChoice('transport', transport, ['bus', 'vduse']);
  checkChoice('mode', mode, ['notify', 'poll']);
  checkChoice('doorbell', doorbell, ['none', 'page']);
  checkChoice('parent', parent, ['set_map', 'dma_map']);
  if (transport === 'vduse')
    for (const option of ['bus', 'doorbell', 'parent'] as const)
      if (options[option] !== undefined) refuse(`${option} is an option of the in-process bus, not of vduse`);
}

/** Threads that it takes to run so many queues. */
function leastThreads(queues: number): number {
  return Math.ceil(queues / THREAD_QUEUES_LIMIT);
}

/** `besides` is what else the caller has allowed already, for the message. */
function checkInteger(name: string, value: number, minimum: number, maximum: number, besides = ''): void {
  if (!Number.isInteger(value) || value < minimum || value > maximum)
    throw new RingbellError(
      'ERR_ARGUMENT',
      `${name} must be ${besides}an integer from ${minimum} to ${maximum}, not ${value}`,
    );
}

function checkChoice(name: string, value: string, choices: readonly string[]): void {
  if (!choices.includes(value))
    throw new RingbellError(
      'ERR_ARGUMENT',
      `${name} must be ${choices.map((choice) => `'${choice}'`).join(' or ')}, not ${inspect(value)}`,
    );
}
