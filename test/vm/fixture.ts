import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** Series of the running kernel, such as '6.12'. */
export function kernelSeries(): string {
  return release()
    .split('.')
    .slice(0, 2)
    .join('.')
    .replace(/[^0-9.].*/, '');
}

/** Loads modules. */
export function modprobe(...names: string[]): void {
  for (const name of names) shell(`modprobe ${name}`);
}

/** Runs a command: its standard output. Throws, with all that it wrote, if it fails or takes longer. */
export function shell(command: string, { limitMs = 60_000 } = {}): string {
  try {
    return execFileSync('sh', ['-c', command], { encoding: 'utf8', stdio: 'pipe', timeout: limitMs });
  } catch (error) {
    const {
      stdout = '',
      stderr = '',
      signal,
    } = error as { stdout?: string; stderr?: string; signal?: string };
    throw new Error(`${command}: ${signal ?? 'failed'}\n${stdout}${stderr}`, { cause: error });
  }
}

/** A fresh folder in memory. */
export function scratch(): string {
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-'));
  shell(`mount -t tmpfs tmpfs ${folder}`);
  return folder;
}

/** A folder whose contents the host gets. */
export function artefacts(): string {
  const folder = join(tmpdir(), 'artefacts');
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** Says that a test cannot run here. */
export function skip(name: string, why: string): void {
  console.log(`skipped: ${name}: ${why}`);
}

/** Resolves once `condition` holds. Fails, saying `what` did not happen, instead of waiting for ever. */
export async function until(what: string, condition: () => boolean, limitMs = 20_000): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`timed out: ${what}`);
    await delay(5);
  }
}

/** Binds a device of the vDPA bus to a driver. */
export function bindDriver(name: string, driver: 'vhost_vdpa' | 'virtio_vdpa'): void {
  writeFileSync(`/sys/bus/vdpa/drivers/${driver}/bind`, name);
}

/** Takes its driver from a device of the vDPA bus. */
export function unbindDriver(name: string): void {
  writeFileSync(`/sys/bus/vdpa/devices/${name}/driver/unbind`, name);
}

/** Makes a simulated device. */
export function addSimulator(kind: 'blk' | 'net', name: string): void {
  modprobe(kind === 'blk' ? 'vdpa_sim_blk' : 'vdpa_sim_net');
  shell(`vdpa dev add name ${name} mgmtdev vdpasim_${kind}`);
}
