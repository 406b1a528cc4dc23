import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { PAGE_SIZE } from '../../assembly/layout.js';
import { loadAddon } from '../../host/native/addon.js';
import { s32 } from '../../host/uapi/codec.js';
import * as vhost from '../../host/uapi/vhost.js';
import type { MmapRequest, VhostVdpaFile } from '../../host/vhost-vdpa/file.js';
import type { MemoryPart } from './driver-memory.js';
import type { DriverMemory } from './world.js';

/** What the process can be asked to do. */
export type DriverCall =
  | { type: 'open'; path: string }
  | { type: 'ioctl'; handle: number; request: number; argument: Uint8Array | undefined }
  | { type: 'write'; handle: number; message: Uint8Array }
  | { type: 'mmap'; handle: number; request: MmapRequest }
  | { type: 'close'; handle: number }
  | { type: 'memory'; parts: readonly MemoryPart[] }
  | { type: 'closeFile'; handle: number };

export interface DriverRequest {
  readonly id: number;
  readonly call: DriverCall;
}

export interface DriverReply {
  readonly handle?: number;
  readonly result?: number;
  readonly argument?: Uint8Array;
  readonly address?: bigint;
}

export interface DriverAnswer {
  readonly id: number;
  readonly reply?: DriverReply;
  readonly error?: { message: string; code: string; errno: number; syscall: string };
}

/** Eventfds that both processes have: as many as a rule needs. */
const EVENTFDS = 4;
/** The first of them in the other process, behind standard streams and channel. */
const FIRST_EVENTFD = 4;

/** Where the ioctls that take an eventfd have it, as bytes into their arguments. */
const EVENTFD_ARGUMENTS = new Map([
  [vhost.VHOST_SET_VRING_KICK, vhost.vhostVringFile.fields.fd[1]],
  [vhost.VHOST_SET_VRING_CALL, vhost.vhostVringFile.fields.fd[1]],
  [vhost.VHOST_SET_VRING_ERR, vhost.vhostVringFile.fields.fd[1]],
  [vhost.VHOST_VDPA_SET_CONFIG_CALL, 0],
]);

/**
 * Drives devices of the kernel from another process. vhost_vdpa_va_map holds the lock on the driver's memory map while it
 * waits for the device's answer: a device in the driver's own process would wait for that lock with the first mmap,
 * munmap or mprotect of whichever of its threads, and the driver for the device.
 */
export class DriverProcess {
  /** In this process. */
  readonly eventfds = Array.from({ length: EVENTFDS }, () => loadAddon().eventfd());
  readonly #child: ChildProcess;
  readonly #calls = new Map<number, (answer: DriverAnswer) => void>();
  #id = 0;
  #ended: string | undefined;

  constructor() {
    this.#child = fork(fileURLToPath(new URL('driver-process-main.js', import.meta.url)), {
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...this.eventfds],
    });
    this.#child.on('message', (answer: DriverAnswer) => {
      this.#calls.get(answer.id)?.(answer);
      this.#calls.delete(answer.id);
    });
    this.#child.on('exit', (code, signal) => {
      this.#ended = `the driver's process ended: ${signal ?? code}`;
      for (const [id, answered] of this.#calls) answered(this.#gone(id));
      this.#calls.clear();
    });
  }

  async open(path: string): Promise<VhostVdpaFile> {
    const { handle } = await this.#call({ type: 'open', path });
    return this.#file(path, handle!);
  }

  async memory(parts: readonly MemoryPart[]): Promise<DriverMemory> {
    const { handle, address } = await this.#call({ type: 'memory', parts });
    return {
      address: address!,
      closeFile: async () => {
        await this.#call({ type: 'closeFile', handle: handle! });
      },
    };
  }

  /** Ends the process. */
  close(): void {
    this.#child.disconnect();
    for (const fd of this.eventfds) loadAddon().close(fd);
  }

  #file(name: string, handle: number): VhostVdpaFile {
    return {
      name,
      pageSize: PAGE_SIZE,
      ioctl: async (request, argument) => {
        const { result, argument: answer } = await this.#call({
          type: 'ioctl',
          handle,
          request,
          argument: this.#translate(request, argument),
        });
        if (answer && !EVENTFD_ARGUMENTS.has(request)) argument?.set(answer);
        return result!;
      },
      write: async (message) => {
        await this.#call({ type: 'write', handle, message });
      },
      mmap: async (_aperture, _linear, request) => {
        await this.#call({ type: 'mmap', handle, request });
      },
      close: async () => {
        await this.#call({ type: 'close', handle });
      },
    };
  }

  /** An argument with the other process's number of an eventfd. */
  #translate(request: number, argument: Uint8Array | undefined): Uint8Array | undefined {
    const offset = EVENTFD_ARGUMENTS.get(request);
    if (offset === undefined || !argument) return argument;
    const translated = argument.slice();
    const index = this.eventfds.indexOf(s32.decode(translated.subarray(offset)));
    if (index >= 0) s32.set(translated.subarray(offset), FIRST_EVENTFD + index);
    return translated;
  }

  async #call(call: DriverCall): Promise<DriverReply> {
    const id = this.#id++;
    const { reply, error } = await new Promise<DriverAnswer>((resolve) => {
      if (this.#ended !== undefined) return resolve(this.#gone(id));
      this.#calls.set(id, resolve);
      this.#child.send({ id, call } satisfies DriverRequest);
    });
    if (error) throw Object.assign(new Error(error.message), error);
    return reply!;
  }

  #gone(id: number): DriverAnswer {
    return { id, error: { message: this.#ended!, code: 'EPIPE', errno: -32, syscall: 'send' } };
  }
}
