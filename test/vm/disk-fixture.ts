import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type DeviceModel, type ServedDevice, type ServeOptions, serve } from '../../host/index.js';
import { bindDriver, modprobe, scratch, unbindDriver, until } from './fixture.js';

/** Milliseconds; opening, binding and closing take some under emulation. */
const LIMIT_MS = 30_000;

/** What `serveDisk` takes besides the options of `serve`. */
export type DiskOptions = Partial<ServeOptions> & { driver: 'virtio_vdpa' | 'vhost_vdpa' };

/** A disk of ours that is bound to a driver of this kernel. */
export interface VduseDisk {
  device: ServedDevice;
  name: string;
  /** /dev/vdX under virtio_vdpa, /dev/vhost-vdpa-N under vhost_vdpa. */
  path: string;
  /** Codes of the errors that the device has emitted. */
  errors: string[];
}

let serial = 0;

/**
 * Serves `model` on the kernel's VDUSE, binds it to a driver, and takes it down again after `body`. A name is used once: a
 * device that a test left broken is in nobody's way.
 */
export async function withDisk(
  model: DeviceModel,
  { driver, ...options }: DiskOptions,
  body: (disk: VduseDisk) => Promise<void>,
): Promise<void> {
  modprobe('vduse', driver, 'virtio_blk');
  const name = `disk${serial++}`;
  const device = await serve(model, { name, transport: 'vduse', ...options });
  const errors: string[] = [];
  device.on('error', (error) => errors.push(`${error.code}: ${error.message}`));
  try {
    // A model in JavaScript answers the driver's first reads on this event loop.
    await run(`echo ${name} > /sys/bus/vdpa/drivers/${driver}/bind`);
    await body({ device, name, path: await driverNode(name), errors });
  } finally {
    await device.close();
  }
}

/** Runs a command beside the event loop: its standard output. Throws, with all that it wrote, if it fails or takes longer. */
export async function run(command: string, limitMs = LIMIT_MS): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)('sh', ['-c', command], { timeout: limitMs });
    return stdout;
  } catch (error) {
    const {
      stdout = '',
      stderr = '',
      signal,
    } = error as { stdout?: string; stderr?: string; signal?: string };
    throw new Error(`${command}: ${signal ?? 'failed'}\n${stdout}${stderr}`, { cause: error });
  }
}

/** Node of the driver that `name` is bound to, once it is there. */
export async function driverNode(name: string): Promise<string> {
  let node: string | undefined;
  const find = () => {
    node = findNode(`/sys/bus/vdpa/devices/${name}`);
    return node !== undefined && existsSync(node);
  };
  await until(`a node of ${name}`, find, LIMIT_MS);
  return node!;
}

function findNode(device: string): string | undefined {
  const child = (folder: string, prefix: string) =>
    existsSync(folder) ? readdirSync(folder).find((entry) => entry.startsWith(prefix)) : undefined;
  const vhost = child(device, 'vhost-vdpa-');
  if (vhost) return `/dev/${vhost}`;
  const virtio = child(device, 'virtio');
  const disk = virtio && child(join(device, virtio, 'block'), 'vd');
  return disk && `/dev/${disk}`;
}

/** Binds a device to a driver again, `times` times in a row. */
export async function rebind(name: string, driver: 'virtio_vdpa' | 'vhost_vdpa', times = 1): Promise<void> {
  for (let round = 0; round < times; round++) {
    unbindDriver(name);
    bindDriver(name, driver);
  }
}

/** A file of `bytes` random bytes in a fresh folder in memory. */
export function imageFile(bytes: number): string {
  const path = join(scratch(), 'disk.img');
  writeFileSync(path, randomBytes(bytes));
  return path;
}
