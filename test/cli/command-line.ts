import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../host/cli/main.js', import.meta.url));
/** Milliseconds after which a command that hangs is killed. */
const COMMAND_TIMEOUT_MS = 170_000;

/** What a command did. */
export interface Outcome {
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** A command that runs. */
export interface Running {
  readonly pid: number;
  readonly outcome: Promise<Outcome>;
  /** What it has printed so far. */
  readonly said: { readonly stdout: string; readonly stderr: string };
  kill(signal: NodeJS.Signals): void;
}

/** Starts `ringbell ...options`; `environment` is added to this process's own, undefined takes a variable away. */
export function start(
  options: readonly string[],
  environment: Record<string, string | undefined> = {},
): Running {
  const child = spawn(process.execPath, [MAIN, ...options], {
    env: { ...process.env, NODE_DEBUG: undefined, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => (said.stdout += chunk));
  child.stderr.on('data', (chunk) => (said.stderr += chunk));
  const outcome = new Promise<Outcome>((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`ringbell ${options.join(' ')} hangs; it said: ${said.stdout}${said.stderr}`));
    }, COMMAND_TIMEOUT_MS);
    child.on('error', reject);
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      resolve({ status, signal, ...said });
    });
  });
  return { pid: child.pid as number, outcome, said, kill: (signal) => child.kill(signal) };
}

/** Runs `ringbell ...options` to its end. */
export function run(
  options: readonly string[],
  environment: Record<string, string | undefined> = {},
): Promise<Outcome> {
  return start(options, environment).outcome;
}
