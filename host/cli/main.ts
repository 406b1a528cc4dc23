#!/usr/bin/env node
import { inspect } from 'node:util';
import { Arguments, type Command, HELP_OPTION, helpOf, UsageError, usageOf } from './arguments.js';
import { demo } from './demo.js';
import { doctor } from './doctor.js';
import { info } from './info.js';
import { inspect as inspectFlight } from './inspect.js';
import { abortOnInterruption, type Interruption } from './interruption.js';
import { packageVersion } from './machine.js';
import { newModel } from './new-model.js';
import { serve } from './serve.js';
import { top } from './top.js';

const COMMANDS: readonly Command[] = [demo, serve, info, top, inspectFlight, doctor, newModel];
const NAME_WIDTH = Math.max(...COMMANDS.map(({ name }) => name.length));
/** Exit status of a command that failed, and of bad input. */
const FAILED = 1;
const BAD_INPUT = 2;

const HELP = [
  'usage: ringbell COMMAND [options]',
  '',
  'A vDPA datapath engine: virtqueues and doorbells in WebAssembly.',
  '',
  'commands:',
  ...COMMANDS.map((command) => `  ${command.name.padEnd(NAME_WIDTH)}  ${command.summary}`),
  '',
  'options:',
  '  --help     print this help; after a command, its own',
  '  --version  print the version',
  '',
].join('\n');

/** Whether the command that runs goes on until it is interrupted. */
let endless = false;

/** Runs the command line: the exit status. */
async function run(argv: readonly string[], signal: AbortSignal): Promise<number> {
  const [name, ...rest] = argv;
  if (name === '--version') {
    process.stdout.write(`${packageVersion()}\n`);
    return 0;
  }
  if (name === '--help') {
    process.stdout.write(HELP);
    return 0;
  }
  if (name === undefined) throw new UsageError('no command given; see ringbell --help');
  const command = COMMANDS.find((known) => known.name === name);
  if (command === undefined)
    throw new UsageError(
      `unknown ${name.startsWith('-') ? 'option' : 'command'} '${name}'; see ringbell --help`,
    );
  const values = new Arguments(rest, { ...command.options, ...HELP_OPTION }, command.operand);
  if (values.flag('help')) {
    process.stdout.write(helpOf(command));
    return 0;
  }
  if (command.operand?.required && values.operand === undefined)
    throw new UsageError(
      `${usageOf(command)}: ${command.operand.value} is missing; see ringbell ${name} --help`,
    );
  endless = command.endless ?? false;
  const status = await command.run(values, signal);
  return signal.aborted && !command.endless ? (signal.reason as Interruption).status : status;
}

/** Reports what ended the command on one line: the exit status. */
function report(error: unknown, signal: AbortSignal): number {
  // Once Ctrl-C was hit, whatever fails fails because of it.
  if (signal.aborted) return (signal.reason as Interruption).status;
  const debug = (process.env.NODE_DEBUG ?? '').split(',').includes('ringbell');
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`ringbell: ${debug ? inspect(error) : message.replace(/\s*\n\s*/g, ' ')}\n`);
  return error instanceof UsageError ? BAD_INPUT : FAILED;
}

// A reader that has seen enough, such as head, is no failure; nor does it end what goes on until it is interrupted.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  if (!endless) process.exit(0);
});
const signal = abortOnInterruption();
run(process.argv.slice(2), signal).then(
  (status) => {
    process.exitCode = status;
  },
  (error: unknown) => {
    process.exitCode = report(error, signal);
  },
);
