import * as assert from 'uvu/assert';
import { Bus } from '../../../host/bus/index.js';
import { isSystemError } from '../../../host/errors.js';
import { hasBit, mask } from '../../../host/uapi/bits.js';
import { u8, u32, u64 } from '../../../host/uapi/codec.js';
import { iocSize } from '../../../host/uapi/ioc.js';
import { ioctlName } from '../../../host/uapi/names.js';
import * as vduse from '../../../host/uapi/vduse.js';
import * as vhost from '../../../host/uapi/vhost.js';
import {
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_RING_RESET,
} from '../../../host/uapi/virtio.js';
import type { VduseControlFile, VduseFile } from '../../../host/vduse/file.js';
import type { VhostVdpaFile } from '../../../host/vhost-vdpa/file.js';
import { VHOST_VDPA_RESET_VRING } from '../../../host/vhost-vdpa/reset-extension.js';
import {
  createDevice,
  FEATURES,
  get,
  getStatus,
  NAME,
  REFUSED,
  Responder,
  setStatus,
  vqInfo,
} from '../../conformance/protocol.js';
import type { Choices } from '../choices.js';
import { Reached, type Target } from '../target.js';

// Numbers of descriptors stay out of it: the small ones belong to Node itself.
const WITH_DESCRIPTORS = new Set([
  vhost.VHOST_SET_VRING_KICK,
  vhost.VHOST_SET_VRING_CALL,
  vhost.VHOST_SET_VRING_ERR,
  vhost.VHOST_VDPA_SET_CONFIG_CALL,
  vduse.VDUSE_VQ_SETUP_KICKFD,
  // Makes more devices than a case could give back.
  vduse.VDUSE_CREATE_DEV,
]);

/** Every ioctl number among the exports of a module. */
function ioctls(module: Record<string, unknown>, type: number): number[] {
  return Object.values(module)
    .filter((value): value is number => typeof value === 'number')
    .filter((value) => ((value >>> 8) & 0xff) === type && value > 0xffff && !WITH_DESCRIPTORS.has(value));
}

const VHOST = [...ioctls(vhost, vhost.VHOST_VIRTIO), VHOST_VDPA_RESET_VRING];
/** Queues of the device. */
const QUEUES = 2;
const VDUSE = ioctls(vduse, vduse.VDUSE_BASE);
/** Bytes of an IOTLB message, and of a response. */
const IOTLB_MESSAGE_BYTES = 72;
const IOTLB_TYPE_OFFSET = 33;

/** Bytes as a confused or hostile caller gives them: any length, small numbers and wild ones. */
function garbage(choices: Choices, size: number): Uint8Array | undefined {
  if (choices.once(20)) return undefined;
  const bytes = new Uint8Array(choices.once(8) ? choices.below(size + 64) : size + choices.below(2) * 16);
  const view = new DataView(bytes.buffer);
  for (let offset = 0; offset + 4 <= bytes.length; offset += 4)
    switch (choices.below(4)) {
      case 1:
        view.setUint32(offset, choices.below(4), true);
        break;
      case 2:
        view.setUint32(offset, choices.below(256), true);
        break;
      case 3:
        view.setUint32(offset, 0xffff_0000 + choices.below(0x10000), true);
        break;
    }
  return bytes;
}

/** What the device offers at least, and what it may offer besides. */
const RING_RESET = mask(VIRTIO_F_RING_RESET);
/** What the model knows of queues. */
const QUEUE_IOCTLS: readonly number[] = [
  vhost.VHOST_VDPA_SET_VRING_ENABLE,
  VHOST_VDPA_RESET_VRING,
  vhost.VHOST_SET_VRING_ADDR,
];

/** The same queue, at addresses that are aligned. */
function addressOf(argument: Uint8Array): Uint8Array {
  if (argument.length < u32.size) return argument;
  return vhost.vhostVringAddr.encode({ index: u32.decode(argument) });
}

/** A call that may fail only as a kernel does: the errno, or OK. */
async function outcomeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return 'OK';
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return error.code;
  }
}

/** One bus, one device that agrees to everything or to nothing, one driver: what each of them may do to the other. */
class Case {
  readonly #choices: Choices;
  readonly #reached: Reached;
  readonly #bus: Bus;
  readonly #control: VduseControlFile;
  readonly #device: VduseFile;
  readonly #responder: Responder;
  #driver: VhostVdpaFile;
  /** What the driver must find: its status, the features that the device is shown, which queues are ready. */
  #status = 0;
  #features = 0n;
  #ready = new Set<number>();
  #suspended = false;
  /** Queues that were reset, and may be set up anew. */
  readonly #placeable = new Set<number>();
  /** Whether the device offers the reset of a queue, and is told of it. */
  readonly #resets: boolean;

  static async play(choices: Choices, reached: Reached): Promise<number> {
    const bus = new Bus();
    try {
      const apiVersion = BigInt(choices.below(2));
      const control = bus.control();
      const vduseFeatures = apiVersion ? { vduseFeatures: BigInt(choices.below(4)) } : {};
      const features = FEATURES | (choices.once(2) ? RING_RESET : 0n);
      const told = hasBit(vduseFeatures.vduseFeatures ?? 0n, vduse.VDUSE_F_QUEUE_READY);
      const shape = apiVersion ? { ngroups: 2, nas: 2 } : {};
      const device = await createDevice(control, {
        apiVersion,
        features,
        queues: QUEUES,
        ...shape,
        ...vduseFeatures,
      });
      await bus.attach(NAME, { parent: choices.pick(['set_map', 'dma_map'] as const) });
      const responder = new Responder(device);
      const driver = await bus.openVhostVdpa(NAME);
      await driver.ioctl(vhost.VHOST_SET_OWNER);
      const resets = told && features !== FEATURES;
      return await new Case(choices, reached, bus, control, device, responder, driver, resets).#play();
    } finally {
      await bus.close();
    }
  }

  private constructor(
    choices: Choices,
    reached: Reached,
    bus: Bus,
    control: VduseControlFile,
    device: VduseFile,
    responder: Responder,
    driver: VhostVdpaFile,
    resets: boolean,
  ) {
    this.#choices = choices;
    this.#reached = reached;
    this.#bus = bus;
    this.#control = control;
    this.#device = device;
    this.#responder = responder;
    this.#driver = driver;
    this.#resets = resets;
  }

  async #play(): Promise<number> {
    const choices = this.#choices;
    const steps = 5 + choices.below(60);
    for (let i = 0; i < steps; i++) {
      const refuses = choices.once(8);
      // A device that refuses this one is broken for ever: that is a case of its own, in the rules of conformance.
      this.#responder.answer = ({ type }) => (refuses && type !== vduse.VDUSE_SET_VQ_READY ? REFUSED : {});
      await this.#step(refuses);
      assert.is(await getStatus(this.#driver), this.#status, 'status');
      assert.is(await get(this.#device, vduse.VDUSE_DEV_GET_FEATURES, u64), this.#features, 'features');
    }
    this.#responder.answer = () => ({});
    await this.#driver.close();
    const next = await this.#bus.openVhostVdpa(NAME);
    await setStatus(next, 1);
    assert.is(await getStatus(next), 1, 'status of the driver that comes next');
    return steps;
  }

  async #step(refuses: boolean): Promise<void> {
    const choices = this.#choices;
    switch (choices.below(8)) {
      case 0:
        return this.#driverIoctl(choices.pick(VHOST), refuses);
      case 1: {
        const status = choices.pick([1, 3, 11, 15, 0, 128, choices.below(256)]);
        return this.#setStatus(u8.encode(status), refuses);
      }
      case 2:
        return this.#setFeatures(u64.encode(BigInt(choices.below(8)) << BigInt(choices.below(61))));
      case 3: {
        const message = garbage(choices, IOTLB_MESSAGE_BYTES) ?? new Uint8Array(0);
        if (choices.once(2) && message.length > IOTLB_TYPE_OFFSET) {
          message[0] = 1 + choices.below(2);
          message[IOTLB_TYPE_OFFSET] = choices.below(8);
        }
        return this.#count('message', this.#driver.write(message));
      }
      case 4: {
        const request = choices.pick(VDUSE);
        const file = choices.once(3) ? this.#control : this.#device;
        return this.#count('device', file.ioctl(request, garbage(choices, iocSize(request))));
      }
      case 5:
        return this.#count('response', this.#device.write(garbage(choices, 152) ?? new Uint8Array(0)));
      case 6:
        return this.#queueIoctl(choices.pick(QUEUE_IOCTLS), this.#queueArgument());
      case 7:
        return this.#setFeatures(u64.encode(FEATURES | (choices.once(4) ? 0n : RING_RESET)));
    }
  }

  async #driverIoctl(request: number, refuses: boolean): Promise<void> {
    const argument = garbage(this.#choices, iocSize(request));
    if (request === vhost.VHOST_VDPA_SET_STATUS) return this.#setStatus(argument, refuses);
    if (request === vhost.VHOST_SET_FEATURES) return this.#setFeatures(argument);
    if (request === vhost.VHOST_VDPA_SUSPEND) return this.#suspend();
    if (QUEUE_IOCTLS.includes(request)) return this.#queueIoctl(request, argument);
    return this.#count('driver', this.#driver.ioctl(request, argument));
  }

  /** Bits are only ever added; 0 forgets everything, whatever the device says to it; what the device refuses is not done. */
  async #setStatus(argument: Uint8Array | undefined, refuses: boolean): Promise<void> {
    const outcome = await outcomeOf(this.#driver.ioctl(vhost.VHOST_VDPA_SET_STATUS, argument));
    this.#reached.count(`status ${outcome}`);
    if (!argument?.length) return void assert.is(outcome, 'EFAULT');
    const status = argument[0]!;
    if (status === 0) {
      assert.is(outcome, refuses ? 'EIO' : 'OK', 'reset');
      this.#status = 0;
      this.#features = 0n;
      this.#ready.clear();
      this.#placeable.clear();
      this.#suspended = false;
      return;
    }
    const taken = (this.#status & ~status) === 0;
    assert.is(outcome, taken ? 'OK' : 'EINVAL', `status ${status} after ${this.#status}`);
    if (taken && !refuses) this.#status = status | (this.#status & VIRTIO_CONFIG_S_NEEDS_RESET);
  }

  /** The number of a queue, mostly one that there is, and one that starts it more often than not. */
  #queueArgument(): Uint8Array {
    const choices = this.#choices;
    return vhost.vhostVringState.encode({ index: choices.below(QUEUES + 1), num: choices.below(3) });
  }

  /** Starting, resetting and placing one queue: a queue that was reset alone is placed while the driver runs, no other. */
  async #queueIoctl(request: number, argument: Uint8Array | undefined): Promise<void> {
    const bytes = request === vhost.VHOST_SET_VRING_ADDR && argument ? addressOf(argument) : argument;
    const outcome = await outcomeOf(this.#driver.ioctl(request, bytes));
    this.#reached.count(`${ioctlName(request)} ${outcome}`);
    if (!bytes || bytes.length < u32.size) return void assert.is(outcome, 'EFAULT');
    const index = u32.decode(bytes);
    if (index >= QUEUES) return void assert.is(outcome, 'ENOBUFS');
    if (request === VHOST_VDPA_RESET_VRING) return this.#queueReset(index, outcome);
    if (bytes.length < iocSize(request)) return void assert.is(outcome, 'EFAULT');
    if (request === vhost.VHOST_SET_VRING_ADDR) {
      const runs = this.#status & VIRTIO_CONFIG_S_DRIVER_OK && !this.#suspended;
      return void assert.is(outcome, runs && !this.#placeable.has(index) ? 'EINVAL' : 'OK');
    }
    assert.is(outcome, 'OK');
    if (vhost.vhostVringState.decode(bytes).num === 0) this.#ready.delete(index);
    else {
      this.#ready.add(index);
      this.#placeable.delete(index);
    }
  }

  async #queueReset(index: number, outcome: string): Promise<void> {
    if (!this.#resets || !(this.#features & RING_RESET)) return void assert.is(outcome, 'EOPNOTSUPP');
    const runs = this.#status & VIRTIO_CONFIG_S_DRIVER_OK && !this.#suspended;
    if (!runs || !this.#ready.has(index)) return void assert.is(outcome, 'EINVAL');
    assert.is(outcome, 'OK');
    this.#ready.delete(index);
    this.#placeable.add(index);
    const { num, desc_addr, driver_addr, device_addr, ready } = await vqInfo(this.#device, index);
    assert.equal([num, desc_addr, driver_addr, device_addr, ready], [0, 0n, 0n, 0n, 0], 'the queue');
  }

  async #suspend(): Promise<void> {
    const outcome = await outcomeOf(this.#driver.ioctl(vhost.VHOST_VDPA_SUSPEND));
    this.#reached.count(`suspend ${outcome}`);
    if (outcome === 'OK' && this.#status & VIRTIO_CONFIG_S_DRIVER_OK) this.#suspended = true;
  }

  /** Features can be chosen until they have been agreed on. */
  async #setFeatures(argument: Uint8Array | undefined): Promise<void> {
    const outcome = await outcomeOf(this.#driver.ioctl(vhost.VHOST_SET_FEATURES, argument));
    this.#reached.count(`features ${outcome}`);
    if (this.#status & VIRTIO_CONFIG_S_FEATURES_OK) return void assert.is(outcome, 'EBUSY');
    if (!argument || argument.length < u64.size) return void assert.is(outcome, 'EFAULT');
    assert.is(outcome, 'OK');
    this.#features = u64.decode(argument);
  }

  async #count(what: string, call: Promise<unknown>): Promise<void> {
    this.#reached.count(`${what} ${await outcomeOf(call)}`);
  }
}

/** Both files of the in-process bus under garbage, with a model of status and features. */
export const busIoctls: Target = {
  name: 'bus-ioctls',
  about: 'ioctls and messages of a driver and a device on the bus: errnos, status and features',
  operations: 'calls',
  tested: 300,
  start: async () => {
    const reached = new Reached();
    return { play: (choices) => Case.play(choices, reached), reached, close: async () => {} };
  },
};
