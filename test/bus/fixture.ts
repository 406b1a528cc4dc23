import { Aperture, type Window } from '../../host/aperture/aperture.js';
import { type AttachOptions, Bus, type BusOptions } from '../../host/bus/index.js';
import { loadAddon } from '../../host/native/addon.js';
import * as vhost from '../../host/uapi/vhost.js';
import type { VduseControlFile, VduseFile } from '../../host/vduse/file.js';
import type { VhostVdpaFile } from '../../host/vhost-vdpa/file.js';
import {
  createDevice as createDeviceOn,
  type DeviceOptions,
  NAME,
  Responder,
  within,
} from '../conformance/protocol.js';

export * from '../conformance/protocol.js';

/** Creates a device on a bus, opens it and sets its queues up. */
export async function createDevice(
  bus: Bus,
  options: DeviceOptions = {},
): Promise<{ control: VduseControlFile; file: VduseFile }> {
  const control = bus.control();
  return { control, file: await createDeviceOn(control, options) };
}

/** A bus with one device that answers everything, and a driver that has opened it and owns it. */
export interface Scene {
  bus: Bus;
  control: VduseControlFile;
  device: VduseFile;
  responder: Responder;
  driver: VhostVdpaFile;
}

/** Sets a scene up, plays `act` on it and takes it down. */
export async function scene(
  act: (scene: Scene) => Promise<void>,
  options: DeviceOptions & AttachOptions & BusOptions = {},
): Promise<void> {
  const bus = new Bus(options);
  try {
    const { control, file } = await createDevice(bus, options);
    const responder = new Responder(file);
    await bus.attach(NAME, options);
    const driver = await bus.openVhostVdpa(NAME);
    await driver.ioctl(vhost.VHOST_SET_OWNER);
    await act({ bus, control, device: file, responder, driver });
  } finally {
    await within(bus.close(), 'closing the bus');
  }
}

/** Memory that a device can be given: a memory file, mapped into an aperture. */
export class SharedMemory {
  readonly aperture = Aperture.create({ bytes: 2 ** 24, privateBytes: 2 ** 16 });
  readonly fd: number;
  readonly window: Window;
  /** Process address. */
  readonly address: bigint;

  constructor(bytes: number) {
    this.fd = loadAddon().memfd('test', bytes, true);
    this.window = this.aperture.map({ fd: this.fd, offset: 0n }, bytes, 'rw');
    this.address = this.aperture.address + BigInt(this.window.linear);
  }

  get bytes(): Uint8Array {
    return this.aperture.viewOwn(this.window);
  }
}
