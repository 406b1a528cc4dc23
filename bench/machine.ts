import { execFileSync } from 'node:child_process';
import { arch, availableParallelism, cpus, release, totalmem, type } from 'node:os';
import { fileURLToPath } from 'node:url';

/** Where, with what and when figures were measured. */
export interface Machine {
  cpu: string;
  /** Logical CPUs that this process may use. */
  cpuCount: number;
  memoryBytes: number;
  kernel: string;
  arch: string;
  node: string;
  v8: string;
  /** Version of the compiler of the references. */
  compiler: string;
  /** Abbreviated, with '-dirty' behind it where files differ from it; '' outside a clone. */
  commit: string;
  /** ISO 8601. */
  date: string;
}

/** This machine, now. */
export function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cpuCount: availableParallelism(),
    memoryBytes: totalmem(),
    kernel: `${type()} ${release()}`,
    arch: arch(),
    node: process.version,
    v8: process.versions.v8,
    compiler: firstLine(process.env.CXX ?? 'c++', ['--version']),
    commit: firstLine('git', ['describe', '--always', '--dirty', '--abbrev=12', '--exclude=*']),
    date: new Date().toISOString(),
  };
}

/** What a command prints first; '' where it cannot be run. */
function firstLine(command: string, args: string[]): string {
  try {
    const cwd = fileURLToPath(new URL('.', import.meta.url));
    return execFileSync(command, args, { cwd, stdio: ['ignore', 'pipe', 'ignore'], encoding: 'utf8' }).split(
      '\n',
    )[0]!;
  } catch {
    return '';
  }
}
