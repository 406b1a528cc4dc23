import type { MessagePort } from 'node:worker_threads';
import { ERROR_CODES, type ErrorCode, RingbellError } from '../errors.js';
import type { MapSource } from '../native/addon.js';
import type { VduseFile } from './file.js';

/** The methods of a VduseFile, called by name across threads. */
type Method = Exclude<keyof VduseFile, 'name'>;

interface Call {
  id: number;
  method: Method;
  parameters: unknown[];
}

interface Reply {
  id: number;
  result?: unknown;
  /** The argument of an ioctl as the call left it. */
  argument?: Uint8Array;
  error?: Failure;
}

/** An error in transit: structured cloning keeps neither the class of an Error nor what it has besides a message. */
interface Failure {
  message: string;
  code?: string;
  errno?: number;
  syscall?: string;
}

/**
 * Lets the thread at the other end of `port` use `file` as its own (`adoptVduseFile`). File descriptors are numbers that
 * the whole process shares and travel as such. The file is closed when the other end goes.
 */
export function exposeVduseFile(file: VduseFile, port: MessagePort): void {
  port.on('message', async ({ id, method, parameters }: Call) => {
    const reply: Reply = { id };
    try {
      reply.result = await (file[method] as (...parameters: unknown[]) => Promise<unknown>)(...parameters);
      if (method === 'ioctl' && parameters[1] instanceof Uint8Array) reply.argument = parameters[1];
    } catch (error) {
      reply.error = pack(error);
    }
    port.postMessage(reply);
  });
  port.on('close', () => {
    // The other thread's end is nobody's error here; closing twice is allowed.
    file.close().catch(() => {});
  });
  // Whoever serves the device decides whether it keeps the process alive.
  port.unref();
}

/** The file named `name` that another thread exposed on the other end of `port`. */
export function adoptVduseFile(name: string, port: MessagePort): VduseFile {
  return new PortFile(name, port);
}

class PortFile implements VduseFile {
  readonly name: string;
  readonly #port: MessagePort;
  readonly #calls = new Map<number, (reply: Reply) => void>();
  #lastId = 0;
  #closing: Promise<void> | undefined;

  constructor(name: string, port: MessagePort) {
    this.name = name;
    this.#port = port;
    port.on('message', (reply: Reply) => {
      this.#calls.get(reply.id)?.(reply);
      this.#calls.delete(reply.id);
    });
    port.on('close', () => {
      const error = { message: 'EBADF: the file is closed', code: 'EBADF', errno: -9, syscall: 'read' };
      for (const [id, settle] of this.#calls) settle({ id, error });
      this.#calls.clear();
    });
  }

  ioctl(request: number, argument?: Uint8Array): Promise<number> {
    return this.#call('ioctl', argument ? [request, argument] : [request], argument) as Promise<number>;
  }

  read(): Promise<Uint8Array> {
    return this.#call('read', []) as Promise<Uint8Array>;
  }

  write(response: Uint8Array): Promise<void> {
    return this.#call('write', [response]) as Promise<void>;
  }

  kickFd(index: number, fd: number): Promise<number> {
    return this.#call('kickFd', [index, fd]) as Promise<number>;
  }

  callFd(index: number): Promise<number> {
    return this.#call('callFd', [index]) as Promise<number>;
  }

  doorbell(index: number): Promise<MapSource | undefined> {
    return this.#call('doorbell', [index]) as Promise<MapSource | undefined>;
  }

  needsReset(): Promise<boolean> {
    return this.#call('needsReset', []) as Promise<boolean>;
  }

  close(): Promise<void> {
    // Once: nobody is left to answer a second time.
    this.#closing ??= this.#call('close', []).then(() => this.#port.close());
    return this.#closing;
  }

  #call(method: Method, parameters: unknown[], argument?: Uint8Array): Promise<unknown> {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#calls.set(id, (reply) => {
        if (reply.error) return reject(unpack(reply.error));
        if (reply.argument) argument?.set(reply.argument);
        resolve(reply.result);
      });
      this.#port.postMessage({ id, method, parameters } satisfies Call);
    });
  }
}

function pack(error: unknown): Failure {
  if (!(error instanceof Error)) return { message: String(error) };
  const { message, code, errno, syscall } = error as Failure;
  return {
    message,
    ...(code !== undefined && { code }),
    ...(errno !== undefined && { errno }),
    ...(syscall !== undefined && { syscall }),
  };
}

/** The codes tell a RingbellError from a system error. */
function unpack({ message, code, ...call }: Failure): Error {
  if (code !== undefined && code in ERROR_CODES) return new RingbellError(code as ErrorCode, message, call);
  return Object.assign(new Error(message), call, code !== undefined && { code });
}
