import { once } from 'node:events';
import {
  isMainThread,
  MessageChannel,
  type MessagePort,
  parentPort,
  Worker,
  workerData,
} from 'node:worker_threads';
import type { Bus } from '../../host/bus/index.js';
import { systemError } from '../../host/errors.js';
import { BlockDevice } from '../../host/models/blk/block-device.js';
import { BlockModel } from '../../host/models/blk/block-model.js';
import type { Model } from '../../host/models/model.js';
import { type ServeOptions, serve } from '../../host/serve.js';
import { adoptVduseFile, exposeVduseFile } from '../../host/vduse/bridge.js';
import { until, within } from './fixture.js';

/** What a server is started with. */
export interface MortalOptions
  extends Pick<ServeOptions, 'queues' | 'queueSize' | 'inFlightLog' | 'packed' | 'inOrder'> {
  /** A file, or so many bytes of memory, that the engine serves; else bytes that all servers share, behind a model that answers in no order. */
  disk: string | number | SharedArrayBuffer;
}

/** What it says: that it serves, what kept it from serving, that something has gone wrong. */
export interface MortalReport {
  takenOver?: boolean;
  refused?: string;
  error?: string;
  replayed?: number;
}

/** Calls of the server's, answered by the thread that has the bus. */
type Call = {
  id: number;
  method: 'ioctl' | 'open' | 'instance' | 'attach' | 'detach';
  parameters: unknown[];
};
type Reply = { id: number; result?: unknown; argument?: Uint8Array; error?: object };

/**
 * A server of a bus's device in a thread of its own, with threads of its own: when it is killed, all of them are gone at
 * whatever they were doing, and the device file is closed, as when a process is killed.
 */
export class MortalServer {
  readonly reports: MortalReport[] = [];
  readonly #worker: Worker;
  readonly #bus: Bus;

  /** Starts one; the device is 'disk0'. Resolves when it serves, or says why it does not. */
  static async start(bus: Bus, options: MortalOptions): Promise<MortalServer> {
    const server = new MortalServer(bus, options);
    await until(() => server.reports.length > 0, 'a server');
    return server;
  }

  private constructor(bus: Bus, options: MortalOptions) {
    this.#bus = bus;
    const { port1, port2 } = new MessageChannel();
    const control = bus.control();
    port1.on('message', async ({ id, method, parameters }: Call) => {
      const reply: Reply = { id };
      const transfer: MessagePort[] = [];
      try {
        if (method === 'open') {
          const ends = new MessageChannel();
          exposeVduseFile(await control.open(parameters[0] as string), ends.port1);
          reply.result = ends.port2;
          transfer.push(ends.port2);
        } else {
          const target = (method === 'attach' || method === 'detach' ? bus : control) as never as Record<
            string,
            (...parameters: unknown[]) => Promise<unknown>
          >;
          reply.result = await target[method]!(...parameters);
          if (method === 'attach') reply.result = undefined;
          if (parameters[1] instanceof Uint8Array) reply.argument = parameters[1];
        }
      } catch (error) {
        reply.error = { ...(error as object), message: (error as Error).message };
      }
      port1.postMessage(reply, transfer);
    });
    port1.unref();
    this.#worker = new Worker(new URL(import.meta.url), {
      workerData: { port: port2, options },
      transferList: [port2],
      execArgv: [],
      trackUnmanagedFds: false,
    });
    // One that a failed test has left keeps nobody from ending.
    this.#worker.unref();
    this.#worker.on('message', (report: MortalReport) => this.reports.push(report));
    this.#worker.on('error', (error) => this.reports.push({ refused: `${error.stack}` }));
  }

  /** The last of what it said about something. */
  last<K extends keyof MortalReport>(what: K): MortalReport[K] {
    return this.reports.findLast((report) => report[what] !== undefined)?.[what] as MortalReport[K];
  }

  /** Ends it where it is, and waits until its device file is closed. */
  async kill(): Promise<void> {
    await within(this.#worker.terminate(), 'the end of a server');
    await until(() => !this.#bus.list()[0]?.served, 'a device that nobody serves');
  }

  /** Has it close its device. */
  async close(): Promise<void> {
    const exit = once(this.#worker, 'exit');
    this.#worker.postMessage('close');
    await within(exit, 'the end of a server');
  }
}

/** Bytes that outlive the server; requests end in any order. */
class Shared extends BlockModel {
  readonly #bytes: Uint8Array;
  override readonly capacity: number;

  constructor(buffer: SharedArrayBuffer) {
    super();
    this.#bytes = new Uint8Array(buffer);
    this.capacity = buffer.byteLength;
  }

  override async read(offset: number, into: Uint8Array): Promise<void> {
    await pause();
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }

  override async write(offset: number, from: Uint8Array): Promise<void> {
    await pause();
    this.#bytes.set(from, offset);
  }
}

const pause = () => new Promise((resolve) => setTimeout(resolve, Math.random() * 4));

/** The control file and the bus of the thread that started this one. */
function remoteBus(port: MessagePort) {
  const replies = new Map<number, (reply: Reply) => void>();
  let lastId = 0;
  port.on('message', (reply: Reply) => replies.get(reply.id)?.(reply));
  const call = (method: Call['method'], ...parameters: unknown[]) =>
    new Promise<unknown>((resolve, reject) => {
      const id = lastId++;
      replies.set(id, ({ result, argument, error }) => {
        if (error) return reject(Object.assign(systemError('EIO', 'ioctl'), error));
        if (argument) (parameters[1] as Uint8Array).set(argument);
        resolve(result);
      });
      port.postMessage({ id, method, parameters } satisfies Call);
    });
  return {
    control: () => ({
      ioctl: (...parameters: unknown[]) => call('ioctl', ...parameters),
      open: async (name: string) => adoptVduseFile(name, (await call('open', name)) as MessagePort),
      instance: (name: string) => call('instance', name),
      close: async () => port.close(),
    }),
    attach: (...parameters: unknown[]) => call('attach', ...parameters),
    detach: (name: string) => call('detach', name),
  } as never as Bus;
}

function modelOf(disk: MortalOptions['disk']): Model {
  if (typeof disk === 'string') return new BlockDevice({ file: disk });
  return typeof disk === 'number' ? new BlockDevice({ memory: disk }) : new Shared(disk);
}

async function live(): Promise<void> {
  const { port, options } = workerData as { port: MessagePort; options: MortalOptions };
  const { disk, ...rest } = options;
  const say = (report: MortalReport) => parentPort!.postMessage(report);
  try {
    const device = await serve(modelOf(disk), { name: 'disk0', bus: remoteBus(port), ...rest });
    device.on('error', ({ code }) => say({ error: code }));
    say({ takenOver: device.takenOver });
    const progress = setInterval(() => say({ replayed: device.stats().replayed }), 10);
    parentPort!.once('message', async () => {
      clearInterval(progress);
      await device.close();
    });
  } catch (error) {
    say({ refused: (error as { code?: string }).code ?? String(error) });
  }
}

if (!isMainThread && (workerData as { port?: unknown } | null)?.port) await live();
