import { availableParallelism } from 'node:os';
import { inspect } from 'node:util';
import { VIRTQUEUE_MAX_SIZE } from '../assembly/virtio.js';
import { Bus, type DoorbellLayout, type DoorbellLayoutName, doorbellLayout, mapsEvery } from './bus/index.js';
import { abortError, isSystemError, RingbellError } from './errors.js';
import type { FlightRecorderOptions } from './flight.js';
import { type KernelAttachment, KernelTransport } from './kernel-transport.js';
import { LoadedModel } from './models/loaded-model.js';
import type { Model } from './models/model.js';
import { loadAddon } from './native/addon.js';
import { checkBoolean, checkBus, checkOptions, checkSignal, flightRecorderPlan } from './options.js';
import { THREAD_QUEUES_LIMIT } from './queue/queue-thread.js';
import { ServedDevice } from './served/served-device.js';
import type { DeviceTransport } from './served/served-device-options.js';
import { VDUSE_API_VERSION, VDUSE_API_VERSION_1, VDUSE_NAME_MAX } from './uapi/vduse.js';
import { defaultLogPath } from './vduse/in-flight-log.js';

/** Queues of a device at most. */
const QUEUES_LIMIT = 64;
/** Entries; header, data and status of a request need three. */
const QUEUE_SIZE_MINIMUM = 4;

/** How a model is to be served. */
export interface ServeOptions {
  /** Name of the device on its bus; drivers open it by that. */
  name: string;
  /** 'bus' (default), the in-process vDPA bus, or 'vduse', the kernel's. */
  transport?: 'bus' | 'vduse';
  /** The in-process bus; the thread's default one if left out. */
  bus?: Bus;
  /**
   * To whom the kernel hands the device: 'vhost', programs, as /dev/vhost-vdpa-N; 'virtio', its own driver, as /dev/vdX;
   * false: nobody, it is not even put on the bus. If left out, it is put there and the kernel does as it is set to. On the
   * in-process bus: 'vhost', as a vhost-vdpa device (default), or 'mdev', as a vhost-mdev device of VFIO.
   */
  attach?: KernelAttachment | 'mdev';
  /** Virtqueues, at most 64; as many as the model needs at least if left out. */
  queues?: number;
  /** Entries of a queue at most: a power of two from 4 to 32,768; 256 if left out. */
  queueSize?: number;
  /**
   * Groups that the queues are dealt out to, queue i to group i modulo that: each can have an address space of its own. 1 if
   * left out, at most one a queue; more than 1 needs version 1 of VDUSE's API.
   */
  groups?: number;
  /** Newest version of VDUSE's API to speak: 0 or 1; 1 if left out. What is spoken depends on the transport, too. */
  apiVersion?: 0 | 1;
  /**
   * Whether memory of this process shall be the bounce buffer of a driver in the kernel (VDUSE_IOTLB_REG_UMEM), where
   * RLIMIT_MEMLOCK allows it, rather than the kernel's own; true if left out.
   */
  umem?: boolean;
  /**
   * Whether to offer indirect descriptors, with which a queue of n entries holds n requests, else n / 3. If left out, true
   * unless the device is attached to the kernel's own driver, which would need a bounce buffer for each table.
   */
  indirect?: boolean;
  /**
   * Whether to offer packed rings. If left out, true unless an in-flight log is kept, which costs a split ring less.
   */
  packed?: boolean;
  /**
   * Whether to offer to use requests in order, with which a driver is told of a batch at once. Models in JavaScript never
   * do. False if left out.
   */
  inOrder?: boolean;
  /**
   * Threads that run the queues; 0 for the caller's event loop. If left out, one a queue up to the number of CPUs. A model
   * in JavaScript always runs on the event loop.
   */
  threads?: number;
  /**
   * CPUs that the queue threads run on, thread i on the i-th of them, and from the first on again; if left out, wherever the
   * kernel has them run.
   */
  cpus?: readonly number[];
  /** What the class of a model is constructed with, in each thread: of a model that is given by URL. Anything that can be cloned. */
  modelOptions?: unknown;
  /** Of queue threads. 'notify' (default): sleep until the driver kicks; 'poll': watch the rings while there is traffic. */
  mode?: 'notify' | 'poll';
  /** Where the doorbells lie that the in-process bus offers to drivers; if left out there are none. */
  doorbell?: DoorbellLayoutName | DoorbellLayout;
  /** How the in-process bus hands the driver's mappings on; 'set_map' if left out. */
  parent?: 'set_map' | 'dma_map';
  /**
   * Path of the in-flight log, a file by which another process can take the device over when this one is killed. Of 'vduse'
   * devices of one group: `/run/ringbell/NAME` if left out; false for none. Of any other: none if left out.
   */
  inFlightLog?: string | false;
  /** Whether, and how, to record what the queues have done last, for when the device breaks; false if left out. */
  flightRecorder?: boolean | FlightRecorderOptions;
  /** What `save` of another device gave: the model goes on from it, and the queues where the driver says. */
  state?: Uint8Array;
  /** Closes the device when it aborts. */
  signal?: AbortSignal;
}

const OPTION_NAMES = [
  'name',
  'transport',
  'bus',
  'attach',
  'queues',
  'queueSize',
  'groups',
  'apiVersion',
  'umem',
  'indirect',
  'packed',
  'inOrder',
  'threads',
  'cpus',
  'modelOptions',
  'mode',
  'doorbell',
  'parent',
  'inFlightLog',
  'flightRecorder',
  'state',
  'signal',
];

/**
 * Offers `served` to drivers under a name: a device model, or the URL of a module whose default export is a class of them, which every
 * queue thread then makes an instance of. Rejects with ERR_ARGUMENT for options or a model that cannot work, ERR_DEVICE_BUSY
 * for one that is being served, ERR_TAKE_OVER for a device of that name that cannot be taken over, EEXIST (a SystemError) for
 * one where no in-flight log is kept, ERR_DEVICE_BROKEN for one that nobody answered for, ERR_NOT_SUPPORTED without VDUSE,
 * ERR_CONTROL_PLANE where the transport refuses, ERR_STATE for a state that is not of such a device, ERR_APERTURE_FULL, an
 * AbortError.
 */
export async function serve(served: Model | URL, options: ServeOptions): Promise<ServedDevice> {
  check(served, options);
  const { name, queueSize = 256, mode = 'notify', signal, doorbell, bus = Bus.default } = options;
  if (signal?.aborted) throw abortError(signal);
  const model =
    served instanceof URL ? await LoadedModel.load(served, options.modelOptions) : (served as Model);
  const queues = options.queues ?? model.minimumQueues ?? 1;
  checkQueues(queues, options);
  const log = logOf(options);
  const device = await ServedDevice.create(model, transportOf(options), {
    name,
    queues,
    queueSize,
    groups: options.groups ?? 1,
    apiVersion: options.apiVersion ?? VDUSE_API_VERSION_1,
    umem: options.umem ?? true,
    indirect: options.indirect ?? options.attach !== 'virtio',
    packed: options.packed ?? log === undefined,
    inOrder: options.inOrder ?? false,
    notificationData: doorbell !== undefined && mapsEvery(doorbell, queues, bus.pageSize),
    // No kernel passes it on, nor does the proposal that came before vhost-vdpa.
    ringReset: options.transport !== 'vduse' && options.attach !== 'mdev',
    threads: Math.min(options.threads ?? Math.max(availableParallelism(), leastThreads(queues)), queues),
    poll: mode === 'poll',
    cpus: options.cpus ?? [],
    log,
    state: options.state,
    flightRecorder: flightRecorderPlan(options.flightRecorder),
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

function logOf({ name, transport, groups = 1, inFlightLog }: ServeOptions): string | undefined {
  if (inFlightLog === undefined)
    return transport === 'vduse' && groups === 1 ? defaultLogPath(name) : undefined;
  return inFlightLog === false ? undefined : inFlightLog;
}

function transportOf({
  transport,
  bus = Bus.default,
  attach,
  doorbell,
  parent,
}: ServeOptions): DeviceTransport {
  if (transport === 'vduse') return new KernelTransport(attach as KernelAttachment | undefined);
  return {
    control: bus.control(),
    attach: async (name) => {
      // A device that outlived its last server is there already.
      const driver = attach === 'mdev' ? 'vhost_mdev' : 'vhost_vdpa';
      const attached = bus.attach(name, {
        driver,
        ...(doorbell && { doorbell }),
        ...(parent && { parent }),
      });
      await attached.catch((error) => {
        if (!isSystemError(error, 'EEXIST')) throw error;
      });
    },
    detach: (name) => bus.detach(name),
  };
}

/**
 * Judges the arguments. Throws TypeError for what is no model, options, signal or bus, ERR_ARGUMENT for options that make
 * no sense.
 */
function check(model: Model | URL, options: ServeOptions): void {
  if (!(model instanceof URL) && typeof model?.attach !== 'function')
    throw new TypeError(
      `model must be a device model, or the URL of a module that has one, not ${inspect(model)}`,
    );
  checkOptions('serve', options, OPTION_NAMES);
  checkSignal(options.signal);
  checkBus(options.bus, ['control', 'attach', 'detach']);
  const refuse = (message: string) => {
    throw new RingbellError('ERR_ARGUMENT', message);
  };
  const { name, queueSize = 256, transport = 'bus', mode = 'notify' } = options;
  const { attach, doorbell, parent = 'set_map' } = options;
  const { apiVersion = VDUSE_API_VERSION_1, umem = true, indirect = true } = options;
  const { packed = false, inOrder = false } = options;
  const named = typeof name === 'string' && name !== '' && Buffer.byteLength(name) < VDUSE_NAME_MAX;
  if (!named || /[/\0]/.test(name))
    refuse(`name must be 1 to ${VDUSE_NAME_MAX - 1} bytes of UTF-8 without '/'`);
  checkInteger('queueSize', queueSize, QUEUE_SIZE_MINIMUM, VIRTQUEUE_MAX_SIZE);
  checkInteger('apiVersion', apiVersion, VDUSE_API_VERSION, VDUSE_API_VERSION_1);
  checkBoolean('umem', umem);
  checkBoolean('indirect', indirect);
  checkBoolean('packed', packed);
  checkBoolean('inOrder', inOrder);
  if (queueSize & (queueSize - 1)) refuse(`queueSize must be a power of two, not ${queueSize}`);
  if (options.modelOptions !== undefined && !(model instanceof URL))
    refuse('modelOptions are for a model that is given by the URL of its module');
  if (options.state !== undefined && !(options.state instanceof Uint8Array))
    throw new TypeError(`state must be a Uint8Array, not ${inspect(options.state)}`);
  if (options.cpus !== undefined) checkCpus(options.cpus);
  checkLog(options);
  flightRecorderPlan(options.flightRecorder);
  checkChoice('transport', transport, ['bus', 'vduse']);
  checkChoice('mode', mode, ['notify', 'poll']);
  if (doorbell !== undefined) doorbellLayout(doorbell);
  checkChoice('parent', parent, ['set_map', 'dma_map']);
  if (attach !== undefined && transport === 'bus') checkChoice('attach', attach, ['vhost', 'mdev']);
  else if (attach) checkChoice('attach', attach, ['vhost', 'virtio']);
  if (transport === 'vduse')
    for (const option of ['bus', 'doorbell', 'parent'] as const)
      if (options[option] !== undefined) refuse(`${option} is an option of the in-process bus, not of vduse`);
}

/** Judges how many queues there are to be, and what depends on that. */
function checkQueues(queues: number, { groups = 1, threads }: ServeOptions): void {
  checkInteger('queues', queues, 1, QUEUES_LIMIT);
  checkInteger('groups', groups, 1, queues);
  if (threads !== undefined && threads !== 0)
    checkInteger('threads', threads, leastThreads(queues), QUEUES_LIMIT, '0 or ');
}

function checkCpus(cpus: readonly number[]): void {
  const bad =
    !Array.isArray(cpus) || cpus.length === 0 || !cpus.every((cpu) => Number.isInteger(cpu) && cpu >= 0);
  if (bad) throw new RingbellError('ERR_ARGUMENT', `cpus must be numbers of CPUs, not ${inspect(cpus)}`);
  const allowed = loadAddon().affinity();
  const missing = cpus.find((cpu) => !allowed.includes(cpu));
  if (missing !== undefined)
    throw new RingbellError(
      'ERR_ARGUMENT',
      `this thread may not run on CPU ${missing}, but on ${allowed.join(', ')}`,
    );
}

function checkLog({ inFlightLog, groups = 1 }: ServeOptions): void {
  if (inFlightLog === undefined || inFlightLog === false) return;
  if (typeof inFlightLog !== 'string' || inFlightLog === '')
    throw new RingbellError(
      'ERR_ARGUMENT',
      `inFlightLog must be a path, or false, not ${inspect(inFlightLog)}`,
    );
  // No kernel says which address space a group has, once the message that did is answered.
  if (groups > 1)
    throw new RingbellError(
      'ERR_ARGUMENT',
      'a device of several groups cannot be taken over: no inFlightLog',
    );
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

function checkChoice(name: string, value: unknown, choices: readonly string[]): void {
  if (!choices.some((choice) => choice === value))
    throw new RingbellError(
      'ERR_ARGUMENT',
      `${name} must be ${choices.map((choice) => `'${choice}'`).join(' or ')}, not ${inspect(value)}`,
    );
}
