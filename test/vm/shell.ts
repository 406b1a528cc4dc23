/**
 * A shell in a guest with the modules loaded, in this checkout: `npm run vm -- [--kernel SERIES] [--machine NAME] [--keep]
 * [--update] [-- COMMAND]`. The host's files are there, read-only; `$TMPDIR` and `/run` can be written to. With a command it
 * runs that, and its exit status passes. `exit`, or Ctrl-A X, ends the guest.
 */
import { boot } from './boot.js';
import { Cache } from './cache.js';
import { parseShellCommandLine } from './command-line.js';
import { getKernels, SeriesUnavailable } from './kernel.js';
import { requireToRun } from './requirements.js';
import { runSession, type Session } from './session.js';

/** Milliseconds for a command, the boot included, and for a shell: a day. */
const COMMAND_LIMIT_MS = 30 * 60_000;
const SHELL_LIMIT_MS = 24 * 3_600_000;

async function runShell({ signal, folder }: Session): Promise<number> {
  const { series, machine, command, update } = parseShellCommandLine(process.argv.slice(2));
  requireToRun();
  const cache = new Cache();
  const progress = (text: string) => process.stderr.write(`${text}\n`);
  const [kernel] = await getKernels([series.name], cache, { update, signal, progress });
  if (kernel instanceof SeriesUnavailable) throw kernel;
  if (command === undefined && !process.stdin.isTTY) {
    progress('an interactive shell needs a terminal; a command can follow --');
    return 2;
  }
  const plan =
    command === undefined
      ? ({ mode: 'shell' } as const)
      : ({ mode: 'command', command, limitMs: COMMAND_LIMIT_MS } as const);
  const release = await cache.lockSlot(signal, progress);
  try {
    const { status, death } = await boot(
      machine,
      kernel!,
      plan,
      folder,
      (message) => {
        if (message.kind === 'text') process.stdout.write(`${message.text}\n`);
      },
      signal,
    );
    if (death) progress(`the guest died: ${death}`);
    return status ?? 1;
  } finally {
    release();
  }
}

const interactive = process.stdin.isTTY && !process.argv.includes('--');
await runSession(process.argv.includes('--keep'), interactive ? SHELL_LIMIT_MS : COMMAND_LIMIT_MS, runShell);
