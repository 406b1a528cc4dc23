import { readdirSync, readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** What this process holds of its kernel's. */
export interface ProcessState {
  /** Open file descriptors. */
  readonly fds: number;
  readonly threads: number;
  /** Lines of /proc/self/maps, but for private memory that can be written: JavaScript's heaps come and go in pieces. */
  readonly mappings: number;
  /** Bytes that are resident. */
  readonly residentBytes: number;
}

const BYTES_PER_KIB = 1024;
/** A mapping of no file, with those rights. */
const HEAP = / rw-p 0+ 00:00 0 *$/;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** What this process holds, garbage collected: memories of WebAssembly are unmapped by nothing else. */
export async function readProcessState(): Promise<ProcessState> {
  // Twice, with a turn between: what finalizers let go of is garbage only then.
  for (let time = 0; time < 2; time++) {
    collectGarbage();
    await new Promise(setImmediate);
  }
  const status = readFileSync('/proc/self/status', 'latin1');
  const maps = readFileSync('/proc/self/maps', 'latin1');
  return {
    // Reading the folder takes one.
    fds: readdirSync('/proc/self/fd').length - 1,
    threads: readdirSync('/proc/self/task').length,
    mappings: maps.split('\n').filter((line) => line !== '' && !HEAP.test(line)).length,
    residentBytes: Number(/^VmRSS:\s+(\d+)/m.exec(status)![1]) * BYTES_PER_KIB,
  };
}
