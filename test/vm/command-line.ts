import { parseArgs } from 'node:util';
import { MACHINES, type Machine } from './machines.js';
import { SERIES, type Series } from './series.js';

/** A command line that says nothing that can be done; the message says what can. */
export class UsageError extends Error {}

/** `--help`; the message is the usage. */
export class HelpRequest extends Error {}

/** What `npm run test:vm` is asked for. */
export interface TestCommandLine {
  series: readonly Series[];
  machines: readonly Machine[];
  /** Parts of a test file's path, all of which it has. */
  patterns: readonly string[];
  json: boolean;
  keep: boolean;
  update: boolean;
}

/** What `npm run vm` is asked for. */
export interface ShellCommandLine {
  series: Series;
  machine: Machine;
  /** A command for the guest's shell; undefined asks for the shell itself. */
  command: string | undefined;
  keep: boolean;
  update: boolean;
}

const TEST_USAGE =
  'usage: npm run test:vm -- [--kernel SERIES]… [--machine NAME]… [--json] [--keep] [--update] [PATTERN]…';
const SHELL_USAGE =
  'usage: npm run vm -- [--kernel SERIES] [--machine NAME] [--keep] [--update] [-- COMMAND]';

const NAMES = [
  `kernels: ${SERIES.map(({ name }) => name).join(', ')}`,
  `machines: ${MACHINES.map(({ name }) => name).join(', ')}`,
].join('\n');

const OPTIONS = {
  kernel: { type: 'string', multiple: true },
  machine: { type: 'string', multiple: true },
  keep: { type: 'boolean', default: false },
  update: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
} as const;

/** Reads the command line of `npm run test:vm`: all series and machines unless some are named. Throws UsageError. */
export function parseTestCommandLine(words: readonly string[]): TestCommandLine {
  const options = { ...OPTIONS, json: { type: 'boolean', default: false } } as const;
  const { values, positionals } = parse(
    () => parseArgs({ args: [...words], options, allowPositionals: true }),
    TEST_USAGE,
  );
  return {
    series: values.kernel ? values.kernel.map((name) => named('kernel', name, SERIES)) : SERIES,
    machines: values.machine ? values.machine.map((name) => named('machine', name, MACHINES)) : MACHINES,
    patterns: positionals,
    json: values.json,
    keep: values.keep,
    update: values.update,
  };
}

/** Reads the command line of `npm run vm`: the oldest series and the default machine unless others are named. Throws UsageError. */
export function parseShellCommandLine(words: readonly string[]): ShellCommandLine {
  const { values, positionals } = parse(
    () => parseArgs({ args: [...words], options: OPTIONS, allowPositionals: true }),
    SHELL_USAGE,
  );
  return {
    series: named('kernel', values.kernel?.at(-1) ?? SERIES[0]!.name, SERIES),
    machine: named('machine', values.machine?.at(-1) ?? MACHINES[0]!.name, MACHINES),
    command: positionals.length ? positionals.join(' ') : undefined,
    keep: values.keep,
    update: values.update,
  };
}

function parse<T extends { values: { help: boolean } }>(attempt: () => T, usage: string): T {
  let parsed: T;
  try {
    parsed = attempt();
  } catch (error) {
    throw new UsageError(`${(error as Error).message}\n${usage}`);
  }
  if (parsed.values.help) throw new HelpRequest(`${usage}\n${NAMES}`);
  return parsed;
}

function named<T extends { name: string }>(what: string, name: string, all: readonly T[]): T {
  const found = all.find((each) => each.name === name);
  if (found) return found;
  throw new UsageError(`no ${what} ${name}: there are ${all.map((each) => each.name).join(', ')}`);
}
