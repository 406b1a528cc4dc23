import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { release } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { isSystemError, systemError } from '../../host/errors.js';
import { loadAddon } from '../../host/native/addon.js';
import { u64 } from '../../host/uapi/codec.js';
import { encodeAttribute, nulString } from '../../host/uapi/netlink.js';
import {
  VDPA_ATTR_DEV_NAME,
  VDPA_CMD_DEV_DEL,
  VDPA_GENL_NAME,
  VDPA_GENL_VERSION,
} from '../../host/uapi/vdpa.js';
import {
  VDUSE_CREATE_DEV,
  VDUSE_DESTROY_DEV,
  VDUSE_GET_API_VERSION,
  VDUSE_GET_FEATURES,
  VDUSE_NAME_MAX,
  vduseDevConfig,
  vduseName,
} from '../../host/uapi/vduse.js';
import { GenericNetlinkFamily } from '../../host/vdpa/generic-netlink.js';
import { VdpaBus } from '../../host/vdpa/vdpa-bus.js';
import type { VduseControlFile, VduseFile } from '../../host/vduse/file.js';
import { KernelVduseControlFile } from '../../host/vduse/kernel-file.js';
import type { VhostVdpaFile } from '../../host/vhost-vdpa/file.js';
import type { MemoryPart } from './driver-memory.js';
import type { DriverProcess } from './driver-process.js';
import { get } from './protocol.js';
import type { DriverMemory, Place, World } from './world.js';

/** Milliseconds in which a work queue of the kernel has certainly run. */
const WORK_QUEUE_MS = 30;
const DEVICES = '/sys/bus/vdpa/devices';
const DRIVER = '/sys/bus/vdpa/drivers/vhost_vdpa';

/** This machine's kernel: everything that was opened, created and attached through it goes with it. */
export class KernelWorld implements World {
  readonly place = release().split('.', 2).join('.') as Place;
  readonly parent = 'set_map';
  readonly apiVersion: bigint;
  readonly vduseFeatures: bigint | undefined;
  readonly #process: DriverProcess;
  #eventfds = 0;
  readonly #names = new Set<string>();
  readonly #attached = new Set<string>();
  readonly #drivers = new Set<VhostVdpaFile>();
  readonly #files = new Set<{ close(): Promise<void> }>();

  static async create(drivers: DriverProcess): Promise<KernelWorld> {
    const control = new KernelVduseControlFile();
    try {
      const apiVersion = await get(control, VDUSE_GET_API_VERSION, u64);
      const features = await get(control, VDUSE_GET_FEATURES, u64).catch((error) => {
        if (isSystemError(error, 'EINVAL')) return undefined;
        throw error;
      });
      return new KernelWorld(drivers, apiVersion, features);
    } finally {
      await control.close();
    }
  }

  private constructor(drivers: DriverProcess, apiVersion: bigint, vduseFeatures: bigint | undefined) {
    this.#process = drivers;
    this.apiVersion = apiVersion;
    this.vduseFeatures = vduseFeatures;
  }

  async control(): Promise<VduseControlFile> {
    const control = new KernelVduseControlFile();
    const files = this.#files;
    files.add(control);
    const names = this.#names;
    return {
      async ioctl(request, argument) {
        const result = await control.ioctl(request, argument);
        if (request === VDUSE_CREATE_DEV)
          names.add(vduseDevConfig.decode(argument!).name.slice(0, VDUSE_NAME_MAX - 1));
        return result;
      },
      async open(name): Promise<VduseFile> {
        const file = await control.open(name);
        files.add(file);
        return file;
      },
      instance: (name) => control.instance(name),
      async close() {
        files.delete(control);
        await control.close();
      },
    };
  }

  async attach(name: string, messageTimeoutMs: number): Promise<void> {
    writeFileSync(`/sys/class/vduse/${name}/msg_timeout`, `${Math.ceil(messageTimeoutMs / 1000)}`);
    await new VdpaBus().add(name, 'vduse');
    this.#attached.add(name);
    await writeFile(`${DRIVER}/bind`, name);
  }

  async detach(name: string): Promise<void> {
    await remove(name);
    this.#attached.delete(name);
  }

  async open(name: string): Promise<VhostVdpaFile> {
    const folder = `${DEVICES}/${name}`;
    const node = existsSync(folder)
      ? readdirSync(folder).find((entry) => entry.startsWith('vhost-vdpa-'))
      : undefined;
    if (!node) throw systemError('ENOENT', 'open', `${name} has no vhost-vdpa device`);
    const file = await this.#process.open(`/dev/${node}`);
    this.#drivers.add(file);
    return file;
  }

  memory(parts: readonly MemoryPart[]): Promise<DriverMemory> {
    return this.#process.memory(parts);
  }

  eventfd(): number {
    const fd = this.#process.eventfds[this.#eventfds++];
    if (fd === undefined) throw new Error('no eventfd is left');
    loadAddon().eventfdDrain(fd);
    return fd;
  }

  async settle(): Promise<void> {
    await sleep(WORK_QUEUE_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Drivers first: a device that has one open stays on the bus until it is closed.
    for (const driver of this.#drivers) await driver.close();
    for (const name of this.#attached) await remove(name);
    for (const file of this.#files) await file.close();
    const control = new KernelVduseControlFile();
    for (const name of this.#names)
      await control.ioctl(VDUSE_DESTROY_DEV, vduseName.encode(name)).catch((error) => {
        // A rule destroyed it itself.
        if (!isSystemError(error, 'EINVAL')) throw error;
      });
    await control.close();
  }
}

/** `vdpa dev del`, with nothing asked before. */
async function remove(name: string): Promise<void> {
  const family = GenericNetlinkFamily.find(VDPA_GENL_NAME, VDPA_GENL_VERSION)!;
  const attribute = encodeAttribute(VDPA_ATTR_DEV_NAME, nulString, name);
  await family.request(VDPA_CMD_DEV_DEL, [attribute], `delete ${name}`);
}
