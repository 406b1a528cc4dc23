import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { shell } from '../fixture.js';

const TRACEFS = '/sys/kernel/tracing';
/** KiB for each CPU: several thousand calls. */
const BUFFER_KIB = 4096;
/** Number of write(2) on x86-64. */
export const SYS_WRITE = 1;

/** A system call that was entered. */
export interface SystemCall {
  /** Thread. */
  tid: number;
  /** Number of the call, as on x86-64. */
  number: number;
  /** First argument: the descriptor of most. */
  fd: number;
}

/** The kernel's own trace of the system calls of this process, of all of its threads. */
export class SyscallTrace {
  readonly #folder = `${TRACEFS}/instances/ringbell-${process.pid}`;
  readonly #switch: number;

  constructor() {
    if (!existsSync(`${TRACEFS}/trace`)) shell(`mount -t tracefs tracefs ${TRACEFS}`);
    mkdirSync(this.#folder);
    this.#write('tracing_on', '0');
    this.#write('buffer_size_kb', `${BUFFER_KIB}`);
    // Threads that come later are traced too.
    this.#write('options/event-fork', '1');
    this.#write('set_event_pid', readdirSync('/proc/self/task').join(' '));
    this.#write('events/raw_syscalls/sys_enter/enable', '1');
    this.#switch = openSync(`${this.#folder}/tracing_on`, 'w');
  }

  /** Starts anew. */
  start(): void {
    this.#write('trace', '');
    writeSync(this.#switch, '1');
  }

  /** Stops: the calls since `start`, without the one that stops. Throws if the kernel lost any. */
  stop(): SystemCall[] {
    writeSync(this.#switch, '0');
    const lost = readdirSync(`${this.#folder}/per_cpu`).some(
      (cpu) => !/^overrun: 0$/m.test(readFileSync(`${this.#folder}/per_cpu/${cpu}/stats`, 'utf8')),
    );
    if (lost) throw new Error('the trace overflowed');
    const lines = readFileSync(`${this.#folder}/trace`, 'utf8').matchAll(
      /-(\d+)\s+\[\d+\].*: sys_enter: NR (\d+) \(([0-9a-f]+),/g,
    );
    const calls = [...lines].map(([, tid, number, first]) => ({
      tid: Number(tid),
      number: Number(number),
      fd: Number.parseInt(first as string, 16) | 0,
    }));
    return calls.filter((call) => call.number !== SYS_WRITE || call.fd !== this.#switch);
  }

  close(): void {
    closeSync(this.#switch);
    this.#write('events/raw_syscalls/sys_enter/enable', '0');
    rmdirSync(this.#folder);
  }

  #write(file: string, text: string): void {
    writeFileSync(`${this.#folder}/${file}`, text);
  }
}
