import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';

/** Milliseconds for a command, a device node, a condition, unless a test says otherwise. */
const LIMIT_MS = 120_000;
/** Milliseconds between two looks at a condition. */
const LOOK_MS = 20;
const VDPA_BUS = '/sys/bus/vdpa';
/** Module and management device of each simulator. */
const SIMULATORS = {
  blk: { module: 'vdpa_sim_blk', manager: 'vdpasim_blk', options: [] },
  net: { module: 'vdpa_sim_net', manager: 'vdpasim_net', options: ['mac', '52:54:00:aa:bb:cc'] },
} as const;

/** `major.minor` of the running kernel. */
export const kernelSeries = () => /^\d+\.\d+/.exec(release())![0];

/** Whether the running kernel is of a series or a newer one. */
export function kernelIsSince(series: string): boolean {
  return kernelSeries().localeCompare(series, 'en', { numeric: true }) >= 0;
}

/** Loads modules of the guest, with what they need. Throws, with modprobe's words, if one is not there. */
export function modprobe(...names: string[]): void {
  for (const name of names) execFileSync('modprobe', ['-d', moduleRoot(), name], { stdio: 'pipe' });
}

/** Whether the guest's kernel has a module, loaded or not, or has it built in. */
export function hasModule(name: string): boolean {
  try {
    execFileSync('modprobe', ['-d', moduleRoot(), '--dry-run', name], { stdio: 'pipe' });
    return true;
  } catch {
    return false;
  }
}

/** Whether a program is installed. */
export function hasTool(name: string): boolean {
  return process.env.PATH!.split(':').some((folder) => existsSync(join(folder, name)));
}

/** Runs a line of shell and gives what it wrote. Throws with its output if it fails or takes longer than `limitMs`. */
export function shell(command: string, { limitMs = LIMIT_MS } = {}): string {
  const options = { encoding: 'utf8', timeout: limitMs, killSignal: 'SIGKILL', stdio: 'pipe' } as const;
  try {
    return execFileSync('sh', ['-c', command], options);
  } catch (error) {
    const { status, signal, stdout, stderr } = error as Record<string, unknown>;
    const how = signal ? `ended by ${signal}` : `exit status ${status}`;
    throw new Error(`${command}: ${how}\n${stdout}${stderr}`);
  }
}

/** A new folder in memory, which is gone after the test file. */
export const scratch = () => mkdtempSync(join(tmpdir(), 'scratch-'));

/** The folder that tests on the host find afterwards, with QEMU's traces. */
export function artefacts(): string {
  const folder = process.env.RINGBELL_VM_ARTEFACTS ?? join(tmpdir(), 'artefacts');
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** Declares a test that cannot run here, and says why. */
export function skip(name: string, why: string): void {
  process.stdout.write(`skipped: ${name}: ${why}\n`);
  test.skip(name);
}

/** Whether this machine's processor is emulated: QEMU without hardware virtualisation. */
export const isEmulated = () => readFileSync('/proc/cpuinfo', 'utf8').includes('QEMU TCG CPU');

/** Waits for a condition. Rejects, naming `what`, after `limitMs`. */
export async function until(what: string, condition: () => unknown, limitMs = LIMIT_MS): Promise<void> {
  const end = performance.now() + limitMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`${what}: not within ${limitMs / 1000} s`);
    await delay(LOOK_MS);
  }
}

/**
 * Gives a vDPA device to a bus driver and waits for what that makes of it: the path of `/dev/vhost-vdpa-N`, of the disk's
 * node, or of the interface's folder in sysfs. Rejects if the kernel refuses.
 */
export async function bindDriver(name: string, driver: 'vhost_vdpa' | 'virtio_vdpa'): Promise<string> {
  // Not synchronously: the device may be served by this very process.
  await writeFile(join(VDPA_BUS, 'drivers', driver, 'bind'), name);
  const device = join(VDPA_BUS, 'devices', name);
  const find = (folder: string, pattern: RegExp) =>
    existsSync(folder) ? readdirSync(folder).find((entry) => pattern.test(entry)) : undefined;
  const findPath = () => {
    const node = find(device, /^vhost-vdpa-\d+$/);
    if (node) return existsSync(`/dev/${node}`) ? `/dev/${node}` : undefined;
    const virtio = find(device, /^virtio\d+$/);
    if (!virtio) return undefined;
    const disk = find(join(device, virtio, 'block'), /./);
    if (disk) return existsSync(`/dev/${disk}`) ? `/dev/${disk}` : undefined;
    const link = find(join(device, virtio, 'net'), /./);
    return link ? `/sys/class/net/${link}` : undefined;
  };
  let path: string | undefined;
  await until(`${name} under ${driver}`, () => (path = findPath()));
  return path!;
}

/** Takes a vDPA device from its bus driver. */
export async function unbindDriver(name: string): Promise<void> {
  await writeFile(join(VDPA_BUS, 'devices', name, 'driver', 'unbind'), name);
}

/** Adds a device of the kernel's simulator: no driver has it yet. Throws if this kernel comes without. */
export function addSimulator(kind: keyof typeof SIMULATORS, name: string): void {
  const { module, manager, options } = SIMULATORS[kind];
  modprobe(module);
  execFileSync('vdpa', ['dev', 'add', 'mgmtdev', manager, 'name', name, ...options], { stdio: 'pipe' });
}

/** Removes a device from the vDPA bus. */
export function removeDevice(name: string): void {
  execFileSync('vdpa', ['dev', 'del', name], { stdio: 'pipe', timeout: LIMIT_MS });
}

const moduleRoot = () => process.env.RINGBELL_VM_MODULES ?? '/';
