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
  /** Name and path of each disk, by its options. */
  readonly #disks = new Map<string, Promise<{ name: string; path: string }>>();

  async serve(options: HostedDiskOptions = {}): Promise<StagedDisk> {
    const key = JSON.stringify(options);
    const served = this.#disks.get(key) ?? this.#serve(`scene${this.#disks.size}`, options);
    this.#disks.set(key, served);
    const { name, path } = await served;
    await this.#process.call(name, { type: 'reset' });
    return {
      open: (open: OpenBlockOptions = {}) => openBlock(path, open),
      bytes: () => this.#process.call(name, { type: 'bytes' }),
      fill: (bytes) => this.#process.call(name, { type: 'fill', bytes }),
      resize: (bytes) => this.#process.call(name, { type: 'resize', bytes }),
      release: () => this.#process.call(name, { type: 'release' }),
      errors: () => this.#process.call(name, { type: 'errors' }),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const served of this.#disks.values()) {
      const { name } = await served;
      await this.#process.call(name, { type: 'close' });
    }
    await this.#process.close();
  }

  async #serve(name: string, options: HostedDiskOptions): Promise<{ name: string; path: string }> {
    await this.#process.call(name, { type: 'serve', options });
    let node: string | undefined;
    await until(`the node of ${name}`, () => {
      node = readdirSync(`${VDPA_BUS}/devices/${name}`).find((entry) => entry.startsWith('vhost-vdpa-'));
      return node;
    });
    return { name, path: `/dev/${node}` };
  }
}
