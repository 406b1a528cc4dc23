import { VHOST_SET_OWNER } from '../../host/uapi/vhost.js';
import type { VduseControlFile, VduseFile } from '../../host/vduse/file.js';
import type { VhostVdpaFile } from '../../host/vhost-vdpa/file.js';
import { createDevice, type DeviceOptions, NAME, Responder } from './protocol.js';
import type { Place, World } from './world.js';

/** Milliseconds that a device has for a message where the rule does not care; no rule waits for it to pass. */
const MESSAGE_TIMEOUT_MS = 30_000;

/** A place where a rule expects something else, and why that has to be so. */
export interface Difference {
  readonly at: Place;
  readonly why: string;
}

/** Whether the rule is played at a place that its `differs` names. Throws for one that it does not name. */
export type At = (place: Place) => boolean;

/** One thing that the kernel does, and that the bus does too. */
export interface Rule {
  /** The behaviour, as a sentence. */
  readonly name: string;
  /** Where the kernel decides it: a function of drivers/vhost/vdpa.c, drivers/vhost/vhost.c or drivers/vdpa/vdpa_user/. */
  readonly source: string;
  /** Why it cannot be played somewhere; undefined where it can. */
  readonly lacks?: (world: World) => string | undefined;
  readonly differs?: readonly Difference[];
  readonly play: (world: World, at: At) => Promise<void>;
}

/** A device that answers everything, on the bus, and a driver that has opened it and owns it. */
export interface Scene {
  readonly world: World;
  readonly at: At;
  readonly control: VduseControlFile;
  readonly device: VduseFile;
  readonly responder: Responder;
  readonly driver: VhostVdpaFile;
  /** Closes the driver's file and opens another, which owns nothing yet. */
  reopen(): Promise<VhostVdpaFile>;
}

export interface SceneOptions extends DeviceOptions {
  messageTimeoutMs?: number;
}

/** A rule's `play` on a scene. */
export function onScene(
  act: (scene: Scene) => Promise<void>,
  options: SceneOptions = {},
): (world: World, at: At) => Promise<void> {
  return async (world, at) => {
    const control = await world.control();
    const device = await createDevice(control, options);
    const responder = new Responder(device);
    await world.attach(NAME, options.messageTimeoutMs ?? MESSAGE_TIMEOUT_MS);
    const driver = await world.open(NAME);
    await driver.ioctl(VHOST_SET_OWNER);
    const reopen = async () => {
      await driver.close();
      return world.open(NAME);
    };
    await act({ world, at, control, device, responder, driver, reopen });
  };
}
