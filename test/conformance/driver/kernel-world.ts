import { readdirSync } from 'node:fs';
import { type OpenBlockOptions, openBlock } from '../../../host/index.js';
import { VDPA_BUS } from '../../../host/vdpa/sysfs-device.js';
import { kernelSeries, until } from '../../vm/fixture.js';
import type { HostedDiskOptions } from './disk-host.js';
import { DiskProcess } from './disk-process.js';
import type { DriverWorld, Place, StagedDisk } from './world.js';

/** vhost-vdpa of the running kernel, and disks on its VDUSE that another process serves. */
export class KernelDriverWorld implements DriverWorld {
  readonly place = kernelSeries() as Place;
  readonly nobody = '/dev/vhost-vdpa-999';
  readonly #process = new DiskProcess();
  /** Name of each disk, by its options. */
  readonly #names = new Map<string, string>();

  async serve(options: HostedDiskOptions = {}): Promise<StagedDisk> {
    const key = JSON.stringify(options);
    const name = this.#names.get(key) ?? `scene${this.#names.size}`;
    if (!this.#names.has(key)) await this.#process.call(name, { type: 'serve', options });
    this.#names.set(key, name);
    await this.#process.call(name, { type: 'reset' });
    let node: string | undefined;
    await until(`the node of ${name}`, () => {
      node = readdirSync(`${VDPA_BUS}/devices/${name}`).find((entry) => entry.startsWith('vhost-vdpa-'));
      return node;
    });
    return {
      open: (open: OpenBlockOptions = {}) => openBlock(`/dev/${node}`, open),
      bytes: () => this.#process.call(name, { type: 'bytes' }),
      fill: (bytes) => this.#process.call(name, { type: 'fill', bytes }),
      resize: (bytes) => this.#process.call(name, { type: 'resize', bytes }),
      release: () => this.#process.call(name, { type: 'release' }),
      errors: () => this.#process.call(name, { type: 'errors' }),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const name of this.#names.values()) await this.#process.call(name, { type: 'close' });
    await this.#process.close();
  }
}
