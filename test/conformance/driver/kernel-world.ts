import { readdirSync } from 'node:fs';
import { type OpenBlockOptions, openBlock } from '../../../host/index.js';
import { VDPA_BUS } from '../../../host/vdpa/sysfs-device.js';
import { kernelSeries, until } from '../../vm/fixture.js';
import type { HostedDiskOptions } from './disk-host.js';
import type { DiskProcess } from './disk-process.js';
import type { DriverWorld, Place, StagedDisk } from './world.js';

let serial = 0;

/** vhost-vdpa of the running kernel, and disks on its VDUSE that another process serves. */
export class KernelDriverWorld implements DriverWorld {
  readonly place = kernelSeries() as Place;
  readonly nobody = '/dev/vhost-vdpa-999';
  readonly #process: DiskProcess;
  readonly #names: string[] = [];

  constructor(process: DiskProcess) {
    this.#process = process;
  }

  async serve(options: HostedDiskOptions = {}): Promise<StagedDisk> {
    const name = `scene${serial++}`;
    await this.#process.call(name, { type: 'serve', options });
    this.#names.push(name);
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
    for (const name of this.#names) await this.#process.call(name, { type: 'close' });
  }
}
