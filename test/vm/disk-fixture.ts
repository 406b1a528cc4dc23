import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { type Model, type ServedDevice, type ServeOptions, serve } from '../../host/index.js';
import { openVhostVdpaFile } from '../../host/vhost-vdpa/open.js';
import { RawDriver } from '../models/raw-driver.js';
import { bindDriver, modprobe, scratch } from './fixture.js';

/** Milliseconds for a command that keeps the disk busy, unless a test says otherwise. */
const LIMIT_MS = 60_000;

/** What `withDisk` takes besides the options of `serve`. */
export type DiskOptions = Partial<ServeOptions> & { driver: 'virtio_vdpa' | 'vhost_vdpa' };

/** A disk of ours that is bound to a driver of this kernel. */
export interface VduseDisk {
  device: ServedDevice;
  name: string;
  /** /dev/vdX under virtio_vdpa, /dev/vhost-vdpa-N under vhost_vdpa. */
  path: string;
  /** Code and message of each error that the device has emitted. */
  errors: string[];
}

let serial = 0;

/**
 * Serves `model` on the kernel's VDUSE, binds it to a driver, and takes it down again after `body`. A name is used once: a
 * device that a test left broken is in nobody's way.
 */
export async function withDisk(
  model: Model,
  { driver, ...options }: DiskOptions,
  body: (disk: VduseDisk) => Promise<void>,
): Promise<void> {
  modprobe('vduse', driver, 'virtio_blk');
  const name = `disk${serial++}`;
  const device = await serve(model, { name, transport: 'vduse', ...options });
  const errors: string[] = [];
  device.on('error', (error) => errors.push(`${error.code}: ${error.message}`));
  try {
    await body({ device, name, path: await bindDriver(name, driver), errors });
  } catch (error) {
    // The device may know why.
    if (errors.length > 0) throw new Error(`the device says: ${errors.join('; ')}`, { cause: error });
    throw error;
  } finally {
    await device.close();
  }
}

/** A driver that writes its ring by hand, for a disk of this very process under vhost_vdpa. */
export function openRawDriver(path: string): Promise<RawDriver> {
  return RawDriver.open({ openVhostVdpa: (target) => openVhostVdpaFile(target) }, path, true, true);
}

/** Runs a line of shell beside the event loop and gives what it wrote. Rejects with its output if it fails or takes longer. */
export async function run(command: string, limitMs = LIMIT_MS): Promise<string> {
  const options = { timeout: limitMs, killSignal: 'SIGKILL' } as const;
  try {
    return (await promisify(execFile)('sh', ['-c', command], options)).stdout;
  } catch (error) {
    const { code, signal, stdout, stderr } = error as Record<string, unknown>;
    const how = signal ? `ended by ${signal}` : `exit status ${code}`;
    throw new Error(`${command}: ${how}\n${stdout}${stderr}`);
  }
}

/** Whether the kernel's driver of the disk at `path` has accepted feature `bit`. */
export function acceptedFeature(path: string, bit: number): boolean {
  return readFileSync(`/sys/class/block/${basename(path)}/device/features`, 'utf8')[bit] === '1';
}

/** A file of `bytes` random bytes in a fresh folder in memory. */
export function imageFile(bytes: number): string {
  const path = join(scratch(), 'disk.img');
  writeFileSync(path, randomBytes(bytes));
  return path;
}
