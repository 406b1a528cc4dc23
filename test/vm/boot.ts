import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { CachedKernel } from './cache.js';
import { Channel, type Message } from './channel.js';
import { CpioArchive } from './cpio.js';
import { MODULES_ARCHIVE, VMLINUZ } from './kernel.js';
import type { Machine } from './machines.js';
import { type BootFiles, qemuArguments } from './qemu.js';
import { findBusybox } from './requirements.js';

/** Milliseconds until the guest has the host's files; emulated, on a busy host. */
const BOOT_LIMIT_MS = 120_000;
/** Seconds for one test file; six times what the longest takes on a host that is fast and quiet. */
const FILE_LIMIT_S = 600;
/** Milliseconds that a guest may take, beyond the limit of a file, to end it and to remove what it left behind. */
const GRACE_MS = 60_000;
/** Milliseconds between two files, and to power off. */
const STEP_LIMIT_MS = 60_000;
/** Lines of the console that are shown when a guest has died. */
const CONSOLE_LINES = 60;
const CHECKOUT = fileURLToPath(new URL('../../..', import.meta.url)).replace(/\/$/, '');

/** What a guest is to do. */
export type Plan =
  | { mode: 'files'; files: readonly string[] }
  | { mode: 'command'; command: string; limitMs: number }
  | { mode: 'shell' };

/** How a guest ended. */
export interface Ending {
  /** Exit status of the command, 0 after files; undefined if the guest died. */
  status: number | undefined;
  /** Why it died, and the end of its console; else empty. */
  death: string;
}

/**
 * Boots a machine and has it carry out a plan; tells what it says meanwhile. `folder` gets all that the boot needs and
 * leaves. Ends in bounded time, except for a shell; when `signal` aborts, at once.
 */
export function boot(
  machine: Machine,
  kernel: CachedKernel,
  plan: Plan,
  folder: string,
  tell: (message: Message) => void,
  signal: AbortSignal,
): Promise<Ending> {
  const files = prepare(kernel, plan, folder);
  const interactive = plan.mode === 'shell';
  return new Promise((resolve, reject) => {
    // QEMU ends with this process, however that ends.
    const words = [
      '--pdeathsig',
      'KILL',
      '--',
      'qemu-system-x86_64',
      ...qemuArguments(machine, files, interactive),
    ];
    const qemu = spawn('setpriv', words, {
      stdio: interactive ? 'inherit' : ['ignore', 'pipe', 'pipe'],
      signal,
      killSignal: 'SIGKILL',
    });
    let status: number | undefined;
    let death = '';
    let timer: NodeJS.Timeout | undefined;
    const limit = (what: string, limitMs: number) => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        death = `${what} took longer than ${limitMs / 1000} s`;
        qemu.kill('SIGKILL');
      }, limitMs);
    };
    const channel = new Channel((message) => {
      if (message.kind === 'ready')
        limit('the guest', plan.mode === 'command' ? plan.limitMs : STEP_LIMIT_MS);
      if (message.kind === 'begin') limit(message.file, FILE_LIMIT_S * 1000 + GRACE_MS);
      if (message.kind === 'end') limit('the step to the next file', STEP_LIMIT_MS);
      if (message.kind === 'exit') {
        status = message.status;
        limit('to power off', STEP_LIMIT_MS);
      }
      tell(message);
    });
    if (!interactive) limit('to boot', BOOT_LIMIT_MS);
    qemu.stdout?.on('data', (chunk) => channel.write(chunk));
    qemu.stderr?.on('data', (chunk) => channel.write(chunk));
    qemu.on('error', (error) => {
      if (!signal.aborted) reject(error);
    });
    qemu.on('close', (code, ended) => {
      clearTimeout(timer);
      channel.end();
      if (signal.aborted) return reject(signal.reason);
      if (interactive) return resolve({ status: code ?? 1, death: '' });
      if (status !== undefined && status !== START_FAILED && !death) return resolve({ status, death });
      death ||=
        status === START_FAILED
          ? 'it could not start'
          : `QEMU ended early: ${ended ?? `exit status ${code}`}`;
      resolve({ status: undefined, death: `${death}; its console:\n${consoleTail(files.console)}` });
    });
  });
}

/** Exit status with which init.sh gives up. */
const START_FAILED = 125;

/** Writes the plan and the initramfs. */
function prepare(kernel: CachedKernel, plan: Plan, folder: string): BootFiles {
  const share = join(folder, 'share');
  const artefacts = join(share, 'artefacts');
  mkdirSync(artefacts, { recursive: true });
  const variables = {
    MODE: plan.mode,
    NODE: process.execPath,
    CHECKOUT,
    LIMIT_S: FILE_LIMIT_S,
    COMMAND: plan.mode === 'command' ? plan.command : '',
    ROWS: process.stdout.rows ?? 24,
    COLUMNS: process.stdout.columns ?? 80,
    GUEST_TERM: process.env.TERM ?? 'vt102',
  };
  const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
  const lines = Object.entries(variables).map(([name, value]) => `${name}=${quote(`${value}`)}\n`);
  writeFileSync(join(share, 'plan'), lines.join(''));
  if (plan.mode === 'files') writeFileSync(join(share, 'files'), `${plan.files.join('\n')}\n`);
  const archive = new CpioArchive();
  // Mount points, and where busybox installs itself.
  for (const path of ['dev', 'host', 'proc', 'sys', 'bin', 'sbin', 'usr/bin', 'usr/sbin'])
    archive.directory(path);
  archive
    .device('dev/console', 5, 1)
    .file('bin/busybox', readFileSync(findBusybox()), 0o755)
    .file('init', readFileSync(join(CHECKOUT, 'test/vm/init.sh')), 0o755);
  const files: BootFiles = {
    kernel: join(folder, 'vmlinuz'),
    initramfs: join(folder, 'initramfs.cpio'),
    share,
    artefacts,
    console: join(folder, 'console'),
    checkout: CHECKOUT,
  };
  writeFileSync(files.kernel, kernel.contents[VMLINUZ]!);
  writeFileSync(files.initramfs, Buffer.concat([archive.toBuffer(), kernel.contents[MODULES_ARCHIVE]!]));
  writeFileSync(files.console, '');
  return files;
}

function consoleTail(path: string): string {
  const lines = readFileSync(path, 'latin1').replaceAll('\r', '').trimEnd().split('\n');
  return lines.slice(-CONSOLE_LINES).join('\n');
}
