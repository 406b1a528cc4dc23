import type { EventEmitter } from 'node:events';
import { statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { VIRTQUEUE_MAX_SIZE } from '../../assembly/virtio.js';
import {
  type Exposure,
  expose,
  type KernelAttachment,
  RingbellError,
  type ServedDevice,
  type ServedDeviceEvents,
  serve as serveModel,
  VdpaBus,
  type VdpaDevice,
} from '../index.js';
import { type Arguments, type Command, UsageError } from './arguments.js';
import type { Interruption } from './interruption.js';
import { blk } from './serve-blk.js';
import type { OpenedModel, ServedKind } from './serve-kind.js';
import { net } from './serve-net.js';
import { ServeReport } from './serve-report.js';

/** What can be served. */
const KINDS: readonly ServedKind[] = [blk, net];
const MODES = ['notify', 'poll'] as const;
const ATTACHMENTS = ['vhost', 'virtio'] as const;
/** Milliseconds between two looks at whether a device that is in use may go. */
const BUSY_POLL_MS = 200;

/** Codes of what is wrong with the files and options that were given. */
const BAD_INPUT = ['ERR_ARGUMENT', 'ERR_OVERLAY_FILE', 'ERR_OVERLAY_BASE'];

/** What the options ask for. */
interface Plan {
  name: string;
  /** Opens what is served. */
  open(signal: AbortSignal): Promise<OpenedModel>;
  attach: KernelAttachment | undefined;
  queues: number;
  queueSize: number;
  threads: number | undefined;
  mode: (typeof MODES)[number];
  /** Path of a stats socket, or 'auto'. */
  stats: string | undefined;
  /** Folder of flight recordings. */
  flight: string | undefined;
}

/** `ringbell serve` */
export const serve: Command = {
  name: 'serve',
  summary: "serve a disk or a network device on the kernel's vDPA bus until Ctrl-C",
  description:
    "Creates a device by VDUSE, puts it on the kernel's vDPA bus, hands it to a driver, says where it is, and serves it.\n" +
    'Ctrl-C, or SIGTERM, takes the device away again and leaves nothing behind; a second one ends at once and leaves it there.\n' +
    'Takes root, and the modules vduse and vhost_vdpa or virtio_vdpa: ringbell doctor says what is missing.\n' +
    'In one process nothing of that is needed: serve() and openBlock() of the package have a bus of their own.',
  operand: { value: 'blk|net', required: true, help: 'the kind of device: a disk, or a network device' },
  options: {
    name: { value: 'NAME', help: 'name of the device, on the bus and in /dev/vduse' },
    ...Object.assign({}, ...KINDS.map(({ options }) => options)),
    attach: {
      value: 'vhost|virtio',
      help: 'to programs, as /dev/vhost-vdpa-N, or to the driver of the kernel (default: as the kernel is set to)',
    },
    queues: { value: 'N', help: 'virtqueues (default: 1, of a network device 2)' },
    'queue-size': { value: 'N', default: '256', help: 'entries of a virtqueue, a power of two' },
    threads: { value: 'N', help: 'queue threads (default: one a queue, up to the processors)' },
    mode: { value: 'notify|poll', default: 'notify', help: 'sleep until kicked, or watch the rings' },
    transport: { value: 'vduse', default: 'vduse', help: 'how others reach the device' },
    stats: {
      value: 'SOCKET|auto',
      help: 'let ringbell top look, by this socket, or one that it finds by itself',
    },
    flight: {
      value: 'FOLDER',
      help: 'leave what led up to it there if the device breaks: see ringbell inspect',
    },
    json: { help: 'print JSON: an object when the device is there, another with its counters at the end' },
  },
  endless: true,
  async run(values, signal) {
    const plan = planOf(values);
    const exposure = await exposureOf(plan.stats);
    try {
      return await serveModelOf(plan, values.flag('json'), signal);
    } finally {
      await exposure?.close();
    }
  },
};

/** Lets others look, if they are to. */
async function exposureOf(stats: string | undefined): Promise<Exposure | undefined> {
  return stats === undefined ? undefined : expose(stats === 'auto' ? {} : { path: stats });
}

/** Makes the model, serves it, and gives up what it holds: the exit status. */
async function serveModelOf(plan: Plan, json: boolean, signal: AbortSignal): Promise<number> {
  const opened = await plan.open(signal).catch((error: unknown) => {
    throw explained(error, plan);
  });
  try {
    return await serveUntil(signal, opened, plan, json);
  } finally {
    await opened.close();
  }
}

/** Serves until the signal aborts: the exit status. */
async function serveUntil(
  signal: AbortSignal,
  opened: OpenedModel,
  plan: Plan,
  json: boolean,
): Promise<number> {
  const { name, queues, queueSize, mode, attach, threads, flight } = plan;
  const device = await serveModel(opened.model, {
    name,
    transport: 'vduse',
    queues,
    queueSize,
    mode,
    ...(attach !== undefined && { attach }),
    ...(threads !== undefined && { threads }),
    ...(flight !== undefined && { flightRecorder: { folder: flight } }),
  }).catch((error: unknown) => {
    throw explained(error, plan);
  });
  const report = new ServeReport(device, { ...plan, what: opened }, json);
  opened.follow?.(report);
  try {
    report.started(await whereabouts(name));
    // Nobody may have pressed Ctrl-C before the device was there.
    if (!signal.aborted) await endOf(device, signal);
    if (!signal.aborted) throw new RingbellError('ERR_THREAD_LOST', `${name}: a thread of the device ended`);
    await close(device, report, signal.reason as Interruption);
    return 0;
  } finally {
    report.ended();
    await device.close();
  }
}

/** Reads the options. Throws UsageError for what cannot be done. */
function planOf(values: Arguments): Plan {
  const kind = KINDS.find(({ name }) => name === values.operand);
  if (!kind)
    throw new UsageError(
      `'${values.operand}' cannot be served: there is ${KINDS.map(({ name }) => name).join(', ')}`,
    );
  for (const other of KINDS)
    for (const option of Object.keys(other.options))
      if (other !== kind && values.given(option))
        throw new UsageError(`--${option} is for serve ${other.name}, not for serve ${kind.name}`);
  if (values.text('transport') !== 'vduse')
    throw new UsageError(
      `--transport ${values.text('transport')}: only vduse reaches other processes; the in-process bus is for serve() and openBlock() of one program`,
    );
  const name = values.text('name');
  if (name === undefined) throw new UsageError('--name is missing: drivers find the device by it');
  const open = kind.plan(values);
  const queueSize = values.count('queue-size', { minimum: 4, maximum: VIRTQUEUE_MAX_SIZE });
  if (queueSize & (queueSize - 1)) throw new UsageError(`--queue-size ${queueSize}: must be a power of two`);
  return {
    name,
    open,
    attach: values.choice('attach', ATTACHMENTS),
    queues: values.given('queues') ? values.count('queues', { minimum: 1, maximum: 64 }) : kind.queues,
    queueSize,
    threads: values.given('threads') ? values.count('threads', { minimum: 0, maximum: 64 }) : undefined,
    mode: values.choice('mode', MODES)!,
    stats: values.text('stats'),
    flight: values.given('flight') ? folderOf(values.text('flight')!) : undefined,
  };
}

/** A folder that is there. Throws UsageError for any other. */
function folderOf(folder: string): string {
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory())
    throw new UsageError(`--flight ${folder}: no such folder`);
  return folder;
}

/** Resolves when the signal aborts or the device has been closed. Its errors are reported, and end nothing. */
export function endOf(device: EventEmitter<ServedDeviceEvents>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
    device.once('close', () => resolve());
  });
}

/** Where the device is on the bus. */
async function whereabouts(name: string): Promise<VdpaDevice> {
  return new VdpaBus().show(name);
}

/**
 * Takes the device away, when its driver lets go of it: one in user space that has it open would lose its disk, and the
 * kernel waits for it anyway. Until then it is served.
 */
async function close(device: ServedDevice, report: ServeReport, interruption: Interruption): Promise<void> {
  interruption.lift();
  // A second signal: at once, though a system call may be waiting for the device that is not served any more, and the end
  // of the process would wait for that call.
  const kill = () => process.kill(process.pid, 'SIGKILL');
  process.once('exit', kill);
  try {
    const bus = new VdpaBus();
    for (let busy = await whoKeeps(bus, device); busy; busy = await whoKeeps(bus, device)) {
      report.busy(busy);
      await sleep(BUSY_POLL_MS);
    }
    await device.close();
  } finally {
    process.off('exit', kill);
  }
}

/** Takes a device off the bus, unless somebody has it open: ERR_DEVICE_BUSY, saying where. */
async function whoKeeps(bus: VdpaBus, { name }: ServedDevice): Promise<RingbellError | undefined> {
  try {
    await bus.delete(name);
  } catch (error) {
    if (error instanceof RingbellError && error.code === 'ERR_DEVICE_BUSY') return error;
    // Whatever else keeps it there, or has taken it away before: closing does what can be done.
  }
  return undefined;
}

/** What went wrong at the start, with what to do about it. */
function explained(error: unknown, { name, attach }: Plan): unknown {
  const { code, cause } = error as { code?: string; cause?: { code?: string } };
  if (code !== undefined && BAD_INPUT.includes(code))
    return new UsageError((error as Error).message, { cause: error });
  const remedy = [code, cause?.code].some((each) => each === 'EACCES' || each === 'EPERM')
    ? 'run it as root'
    : code === 'ERR_CONTROL_PLANE' && attach !== undefined
      ? `see ringbell doctor, and dmesg for what ${attach === 'vhost' ? 'vhost_vdpa' : 'virtio_vdpa'} said`
      : undefined;
  if (remedy === undefined || !(error instanceof Error)) return error;
  return new Error(`--name ${name}: ${error.message}: ${remedy}`, { cause: error });
}
