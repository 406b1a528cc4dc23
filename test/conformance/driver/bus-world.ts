import { Bus, type OpenBlockOptions, openBlock } from '../../../host/index.js';
import { within } from '../protocol.js';
import { HostedDisk, type HostedDiskOptions } from './disk-host.js';
import type { DriverWorld, Place, StagedDisk } from './world.js';

/** A bus of its own in this process, whose devices are bound to one of its drivers. */
export class BusDriverWorld implements DriverWorld {
  readonly place: Place;
  readonly nobody = 'nobody';
  readonly #attach: 'vhost' | 'mdev';
  readonly #bus = new Bus();
  readonly #disks = new Map<string, HostedDisk>();

  constructor(attach: 'vhost' | 'mdev') {
    this.#attach = attach;
    this.place = attach === 'mdev' ? 'vhost_mdev of the bus' : 'vhost_vdpa of the bus';
  }

  async serve(options: HostedDiskOptions = {}): Promise<StagedDisk> {
    const name = JSON.stringify(options);
    let disk = this.#disks.get(name);
    disk ??= await HostedDisk.serve(options, { name, bus: this.#bus, attach: this.#attach });
    this.#disks.set(name, disk);
    await disk.reset();
    return {
      open: (open: OpenBlockOptions = {}) => openBlock(name, { bus: this.#bus, ...open }),
      bytes: async () => disk.bytes(),
      fill: async (bytes) => disk.fill(bytes),
      resize: (bytes) => disk.resize(bytes),
      release: async () => disk.release(),
      errors: async () => disk.errors(),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const disk of this.#disks.values()) await within(disk.close(), 'closing a disk');
    await within(this.#bus.close(), 'closing the bus');
  }
}
