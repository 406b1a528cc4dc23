import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { HostedDiskOptions } from './disk-host.js';

/** What the process can be asked to do with a disk. */
export type DiskCall =
  | { type: 'serve'; options: HostedDiskOptions }
  | { type: 'reset' | 'bytes' | 'release' | 'errors' | 'close' }
  | { type: 'fill'; bytes: Uint8Array }
  | { type: 'resize'; bytes: number };

export interface DiskRequest {
  readonly id: number;
  readonly name: string;
  readonly call: DiskCall;
}

export interface DiskAnswer {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: string;
}

interface Waiter {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

/** Serves disks on the kernel's VDUSE in a process of its own: a driver and its device do not belong into one. */
export class DiskProcess {
  readonly #child: ChildProcess;
  readonly #waiters = new Map<number, Waiter>();
  #calls = 0;

  constructor() {
    const main = fileURLToPath(new URL('disk-host-main.js', import.meta.url));
    this.#child = fork(main, { serialization: 'advanced' });
    this.#child.on('message', ({ id, result, error }: DiskAnswer) => {
      const waiter = this.#waiters.get(id)!;
      this.#waiters.delete(id);
      if (error === undefined) waiter.resolve(result);
      else waiter.reject(new Error(`the process that serves disks: ${error}`));
    });
    this.#child.on('exit', (code) => {
      for (const { reject } of this.#waiters.values())
        reject(new Error(`the process that serves disks has ended: ${code}`));
    });
  }

  /** Has the process do something. Rejects with what it threw, or that it has ended. */
  call<T>(name: string, call: DiskCall): Promise<T> {
    const id = this.#calls++;
    return new Promise((resolve, reject) => {
      this.#waiters.set(id, { resolve: resolve as (result: unknown) => void, reject });
      this.#child.send({ id, name, call } satisfies DiskRequest, (error) => {
        if (error) reject(error);
      });
    });
  }

  /** Ends it. */
  async close(): Promise<void> {
    const exit = once(this.#child, 'exit');
    this.#child.disconnect();
    await exit;
  }
}
