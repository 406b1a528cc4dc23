import { parseArgs } from 'node:util';
import { parseBytes } from './units.js';

/** Bad input: the command line reports its message on one line and exits with status 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** One option of a command. A `value` is the placeholder in the help; without one the option is a flag. */
export interface Option {
  value?: string;
  /** What is used where the option is not given, as the user would have typed it. */
  default?: string;
  /** One line of help. */
  help: string;
}

/** The one word that a command takes besides its options, such as a device's name. */
export interface Operand {
  /** The placeholder in the help. */
  value: string;
  /** Whether the command cannot do without. */
  required: boolean;
  /** One line of help. */
  help: string;
}

/** A command: what `ringbell NAME` runs. */
export interface Command {
  name: string;
  /** One line for the list of commands. */
  summary: string;
  /** What the command does, for its own help. */
  description: string;
  operand?: Operand;
  options: Record<string, Option>;
  /** It goes on until Ctrl-C, which is its regular end: its own exit status counts then. */
  endless?: boolean;
  /** Does the work; the signal aborts on Ctrl-C. Returns the exit status. */
  run(values: Arguments, signal: AbortSignal): Promise<number>;
}

/** The option that every command has. */
export const HELP_OPTION: Record<string, Option> = { help: { help: 'print this help' } };

/** The options that were given, read by kind. Each getter throws UsageError, naming the option. */
export class Arguments {
  /** The operand, if there is one. */
  readonly operand: string | undefined;
  readonly #values: Record<string, string | boolean | undefined>;
  readonly #options: Record<string, Option>;

  /** Reads `argv` by the options of a command. Throws UsageError for what the command does not know. */
  constructor(argv: readonly string[], options: Record<string, Option>, operand?: Operand) {
    this.#options = options;
    try {
      const { values, positionals } = parseArgs({
        args: [...argv],
        allowPositionals: operand !== undefined,
        options: Object.fromEntries(
          Object.entries(options).map(([name, option]) => [
            name,
            { type: option.value === undefined ? ('boolean' as const) : ('string' as const) },
          ]),
        ),
      });
      this.#values = values;
      this.operand = positionals[0];
      if (positionals.length > 1) throw new Error(`unexpected argument '${positionals[1]}'`);
    } catch (error) {
      // Node's messages go on with advice over several sentences and lines; the first sentence is the reason.
      throw new UsageError(
        (error as Error).message.split(/\.\s|\n/, 1)[0]!.replace(/^./, (c) => c.toLowerCase()),
      );
    }
  }

  /** Whether the option was given at all. */
  given(name: string): boolean {
    return this.#values[name] !== undefined;
  }

  flag(name: string): boolean {
    return this.#values[name] === true;
  }

  /** The text of an option, or of its default. */
  text(name: string): string | undefined {
    const value = this.#values[name];
    return typeof value === 'string' ? value : this.#options[name]?.default;
  }

  /** A size in bytes, such as 4096, 4k or 1.5G: a multiple of `multiple`. */
  bytes(name: string, limits: { minimum: number; maximum: number; multiple: number }): number {
    const text = this.text(name) ?? '';
    const bytes = parseBytes(text);
    if (bytes === undefined)
      throw new UsageError(`--${name} '${text}': not a size; write 4096, 4k, 256M or 1G`);
    if (bytes < limits.minimum || bytes > limits.maximum)
      throw new UsageError(`--${name} ${text}: must be from ${limits.minimum} to ${limits.maximum} bytes`);
    if (bytes % limits.multiple !== 0)
      throw new UsageError(`--${name} ${text}: must be a multiple of ${limits.multiple} bytes`);
    return bytes;
  }

  /** A whole number. */
  count(name: string, limits: { minimum: number; maximum: number }): number {
    const text = this.text(name) ?? '';
    const count = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (!(count >= limits.minimum && count <= limits.maximum))
      throw new UsageError(
        `--${name} '${text}': must be a whole number from ${limits.minimum} to ${limits.maximum}`,
      );
    return count;
  }

  /** A duration in seconds, fractions allowed. */
  seconds(name: string, limits: { minimum: number; maximum: number }): number {
    const text = this.text(name) ?? '';
    const seconds = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
    if (!(seconds >= limits.minimum && seconds <= limits.maximum))
      throw new UsageError(
        `--${name} '${text}': must be from ${limits.minimum} to ${limits.maximum} seconds`,
      );
    return seconds;
  }

  /** One of a few words; undefined where the option was not given and has no default among them. */
  choice<Word extends string>(name: string, words: readonly Word[]): Word | undefined {
    if (!this.given(name)) return words.find((word) => word === this.#options[name]?.default);
    const text = this.text(name);
    const word = words.find((known) => known === text);
    if (word === undefined) throw new UsageError(`--${name} '${text}': must be ${words.join(' or ')}`);
    return word;
  }
}

/** The name of a command with what has to follow it. */
export function usageOf({ name, operand }: Pick<Command, 'name' | 'operand'>): string {
  if (operand === undefined) return name;
  return `${name} ${operand.required ? operand.value : `[${operand.value}]`}`;
}

/** The help of a command, from the same table that its options are parsed by. */
export function helpOf(command: Command): string {
  const rows = Object.entries({ ...command.options, ...HELP_OPTION }).map(([name, option]) => ({
    usage: `--${name}${option.value === undefined ? '' : ` ${option.value}`}`,
    help: option.help + (option.default === undefined ? '' : ` (default: ${option.default})`),
  }));
  const { operand } = command;
  const usages = [...rows.map((row) => row.usage), operand?.value ?? ''];
  const width = Math.max(...usages.map((usage) => usage.length));
  return [
    `usage: ringbell ${usageOf(command)} [options]`,
    '',
    command.description,
    '',
    ...(operand ? [`  ${operand.value.padEnd(width)}  ${operand.help}`, ''] : []),
    'options:',
    ...rows.map((row) => `  ${row.usage.padEnd(width)}  ${row.help}`),
    '',
  ].join('\n');
}
