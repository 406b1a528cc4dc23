import { readFileSync } from 'node:fs';
import { arch, availableParallelism, cpus, release, totalmem } from 'node:os';

/** What a measurement was made on. */
export interface Machine {
  cpu: string;
  /** Processors that this process may use. */
  cpus: number;
  memoryBytes: number;
  architecture: string;
  kernel: string;
  node: string;
  ringbell: string;
  /** ISO 8601. */
  date: string;
}

/** Version of this package. */
export function packageVersion(): string {
  const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

/** Describes this machine. */
export function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cpus: availableParallelism(),
    memoryBytes: totalmem(),
    architecture: arch(),
    kernel: release(),
    node: process.version,
    ringbell: packageVersion(),
    date: new Date().toISOString(),
  };
}
