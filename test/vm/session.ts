import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HelpRequest, UsageError } from './command-line.js';
import { MissingRequirement } from './requirements.js';

/** The user or the system ended the command. */
class Interruption extends Error {}

/** Exit statuses of what ends a command and needs no stack to be understood. */
const STATUSES = [
  [HelpRequest, 0],
  [UsageError, 2],
  [MissingRequirement, 2],
  [Interruption, 130],
] as const;

/** What a command works with until it ends. */
export interface Session {
  /** Aborts on Ctrl-C and SIGTERM, and when the whole command has taken too long. */
  signal: AbortSignal;
  /** A folder for what the guests need and leave; it goes at the end. */
  folder: string;
}

/**
 * Runs a command and exits with the status it gives; nothing of it is left behind, its folder only if `keep`. Exit status 2:
 * it cannot run here or as asked, and standard error says why.
 */
export async function runSession(
  keep: boolean,
  limitMs: number,
  command: (session: Session) => Promise<number>,
): Promise<never> {
  const abort = new AbortController();
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-vm-'));
  let status: number;
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(name, () => abort.abort(new Interruption(`ended by ${name}`)));
  const timer = setTimeout(() => abort.abort(new Error(`took longer than ${limitMs / 1000} s`)), limitMs);
  try {
    status = await command({ signal: abort.signal, folder });
  } catch (error) {
    status = describeFailure(abort.signal.aborted ? abort.signal.reason : error);
  }
  clearTimeout(timer);
  if (keep) process.stderr.write(`kept: ${folder}\n`);
  else rmSync(folder, { recursive: true, force: true });
  process.exit(status);
}

/** Says why a command failed; gives its exit status. */
function describeFailure(error: unknown): number {
  const { message, stack } = error as Error;
  const status = STATUSES.find(([kind]) => error instanceof kind)?.[1];
  (status === 0 ? process.stdout : process.stderr).write(`${status === undefined ? stack : message}\n`);
  return status ?? 1;
}
