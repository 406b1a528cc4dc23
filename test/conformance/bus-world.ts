import { Bus, type ParentKind } from '../../host/bus/index.js';
import { loadAddon } from '../../host/native/addon.js';
import { VDUSE_API_VERSION_1, VDUSE_F_QUEUE_READY, VDUSE_F_SUSPEND } from '../../host/uapi/vduse.js';
import type { VduseControlFile } from '../../host/vduse/file.js';
import type { VhostVdpaFile } from '../../host/vhost-vdpa/file.js';
import { type MemoryPart, SharedMemory } from './driver-memory.js';
import { mask, within } from './protocol.js';
import type { DriverMemory, World } from './world.js';

/** A bus of its own in this process. */
export class BusWorld implements World {
  readonly place = 'bus';
  readonly parent: ParentKind;
  readonly apiVersion = BigInt(VDUSE_API_VERSION_1);
  readonly vduseFeatures = mask(VDUSE_F_QUEUE_READY, VDUSE_F_SUSPEND);
  readonly #bus = new Bus({ deviceIds: 'kernel' });
  readonly #eventfds: number[] = [];

  constructor(parent: ParentKind) {
    this.parent = parent;
  }

  async control(): Promise<VduseControlFile> {
    return this.#bus.control();
  }

  async attach(name: string, messageTimeoutMs: number): Promise<void> {
    await this.#bus.attach(name, { parent: this.parent, messageTimeout: messageTimeoutMs });
  }

  async detach(name: string): Promise<void> {
    await this.#bus.detach(name);
  }

  open(name: string): Promise<VhostVdpaFile> {
    return this.#bus.openVhostVdpa(name);
  }

  async memory(parts: readonly MemoryPart[]): Promise<DriverMemory> {
    const memory = new SharedMemory(parts);
    return { address: memory.address, closeFile: async () => memory.closeFile() };
  }

  eventfd(): number {
    const fd = loadAddon().eventfd();
    this.#eventfds.push(fd);
    return fd;
  }

  // Here notifications arrive within the call that makes them.
  async settle(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {
    await within(this.#bus.close(), 'closing the bus');
    for (const fd of this.#eventfds) loadAddon().close(fd);
  }
}
