import { spawn } from 'node:child_process';
import { closeSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { type Memory, Module } from '../../host/aperture/web-assembly.js';
import { type Addon, loadAddon } from '../../host/native/addon.js';
import { within } from '../waiting.js';

export { within };

/** The addon under test. */
export const addon: Addon = loadAddon();

const WASM_PAGE_SIZE = 65536;

/** A shared memory of `bytes`, and a view over the whole of it. */
export function newMemory(bytes: number = 2 ** 20): { memory: Memory; view: Uint8Array } {
  const { Memory } = (
    globalThis as unknown as { WebAssembly: { Memory: new (descriptor: object) => Memory } }
  ).WebAssembly;
  const pages = bytes / WASM_PAGE_SIZE;
  const memory = new Memory({ initial: pages, maximum: pages, shared: true });
  return { memory, view: new Uint8Array(memory.buffer) };
}

/** Accesses to a memory from inside WASM. */
export interface Access {
  load(address: number): number;
  store(address: number, byte: number): void;
  copy(to: number, from: number, bytes: number): void;
}

// (import "env" "memory" (memory 1 65536 shared)), then load: i32.load8_u; store: i32.store8; copy: memory.copy.
const ACCESS_MODULE = Buffer.from(
  [
    '0061736d0100000001110360017f017f60027f7f0060037f7f7f0002120103656e76066d656d6f727902030180800403',
    '0403000102071703046c6f616400000573746f7265000104636f707900020a2003070020002d00000b0900200020013a',
    '00000b0c00200020012002fc0a00000b',
  ].join(''),
  'hex',
);

/** WASM code on `memory`. */
export function accessTo(memory: Memory): Access {
  const { Instance } = (
    globalThis as unknown as {
      WebAssembly: { Instance: new (module: Module, imports: object) => { exports: unknown } };
    }
  ).WebAssembly;
  return new Instance(new Module(ACCESS_MODULE), { env: { memory } }).exports as Access;
}

/** What the function of a worker or a child process finds; it is carried over as text, so it sees nothing else of ours. */
export interface Scene {
  addon: Addon;
  newMemory: typeof newMemory;
  accessTo: typeof accessTo;
  fs: typeof import('node:fs');
}

const SCENE = `const { addon, newMemory, accessTo } = await import(${JSON.stringify(import.meta.url)});
const fs = await import('node:fs');
const scene = { addon, newMemory, accessTo, fs };`;

/** Runs `body` in a worker that stays alive as long as something there keeps it so. */
export function startWorker<Data, Result>(
  body: (scene: Scene, data: Data, post: (message: Result) => void) => unknown,
  data: Data,
): Worker {
  const source = `const { parentPort, workerData } = process.getBuiltinModule('node:worker_threads');
(async () => { ${SCENE} return (${body})(scene, workerData, (message) => parentPort.postMessage(message)); })()
  .catch((error) => process.nextTick(() => { throw error; }));`;
  return new Worker(source, { eval: true, workerData: data });
}

/** The first message of a worker. */
export function messageOf<T>(worker: Worker): Promise<T> {
  const message = new Promise<T>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', () => reject(new Error('the worker ended without a message')));
  });
  return within(message, 'a message of the worker');
}

/** Runs `body` in a worker to its end: what it posts. */
export async function inWorker<Data, Result>(
  body: (scene: Scene, data: Data, post: (message: Result) => void) => unknown,
  data: Data,
): Promise<Result> {
  const worker = startWorker(body, data);
  const ended = new Promise((resolve) => worker.once('exit', resolve));
  const result = await messageOf<Result>(worker);
  await within(ended, 'the end of the worker');
  return result;
}

/** How a child process ended, and what it printed. */
export interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** Runs `body` in a process of its own, node having these options. */
export async function inProcess<Data>(
  body: (scene: Scene, data: Data) => unknown,
  data: Data,
  options: string[] = [],
): Promise<Outcome> {
  const source = `${SCENE}\nawait (${body})(scene, ${JSON.stringify(data)});`;
  const child = spawn(process.execPath, [...options, '--input-type=module', '-e', source]);
  const outcome: Outcome = { code: null, signal: null, stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => (outcome.stdout += chunk));
  child.stderr.on('data', (chunk) => (outcome.stderr += chunk));
  const ended = new Promise<Outcome>((resolve) => {
    child.once('close', (code, signal) => resolve({ ...outcome, code, signal }));
  });
  return within(ended, 'the end of the child process').catch((error) => {
    child.kill('SIGKILL');
    throw error;
  });
}

let files = 0;

/** Opens a new file under `folder`, gives its descriptor to `body`, and removes it. */
export async function withFile(
  body: (fd: number, path: string) => unknown,
  { folder = tmpdir(), flags = 'w+' as string | number } = {},
): Promise<void> {
  const path = join(folder, `ringbell-test-${process.pid}-${files++}`);
  const fd = openSync(path, flags, 0o600);
  try {
    await body(fd, path);
  } finally {
    closeSync(fd);
    rmSync(path, { force: true });
  }
}

/** What `call` throws, as a system error's fields. */
export function thrown(call: () => unknown): {
  code?: string;
  errno?: number;
  syscall?: string;
  name: string;
} {
  try {
    call();
  } catch (error) {
    const { code, errno, syscall, name } = error as NodeJS.ErrnoException;
    return { ...(code && { code }), ...(errno && { errno }), ...(syscall && { syscall }), name };
  }
  throw new Error('nothing was thrown');
}
