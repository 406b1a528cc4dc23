import { RingbellError } from '../../errors.js';
import { IFNAMSIZ, TUN_F_CSUM, TUN_F_TSO_ECN, TUN_F_TSO4, TUN_F_TSO6, TUN_F_UFO } from '../../uapi/tun.js';
import {
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_HDR_SIZE,
  virtioNetHdrV1,
} from '../../uapi/virtio.js';
import type { DeviceShape } from '../manifest.js';
import type { AttachedModel, ModelContext } from '../model.js';
import type { Life } from '../model-host.js';
import { type NetHeader, NO_OFFLOADS } from './net-header.js';
import { NetModel } from './net-model.js';
import { type NetOptions, queuePairs } from './net-options.js';
import { TapInterface, type TapQueue, tapError } from './tap-interface.js';

const NO_HEADER = new Uint8Array(VIRTIO_NET_HDR_SIZE);
/** What of a driver's features the kernel is told, so that it leaves as much to the driver. */
const OFFLOADS: readonly (readonly [bit: number, flag: number])[] = [
  [VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM],
  [VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4],
  [VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6],
  [VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN],
  [VIRTIO_NET_F_GUEST_UFO, TUN_F_UFO],
];

/** What a network device at a tap interface is to be. */
export interface TapNetOptions extends NetOptions {
  /**
   * Name of the interface, of 15 bytes at most. One that is not there is made, and goes with the device. If left out, a new one
   * that the kernel names.
   */
  name?: string | undefined;
}

/**
 * A network device whose other end is a tap interface of the kernel: what its driver sends is what comes in there, and the other
 * way around. `offloads`, which the kernel can do all of, is true if left out. The interface has a carrier while there is a driver
 * and the link is up. It is there while the device is served.
 */
export class TapNet extends NetModel {
  readonly #name: string;
  #tap: TapInterface | undefined;
  #refused = 0;

  /** Throws TypeError, ERR_ARGUMENT. */
  constructor(options: TapNetOptions = {}) {
    super({ ...options, offloads: options.offloads ?? true }, ['name']);
    const { name = '' } = options;
    if (typeof name !== 'string' || Buffer.byteLength(name) >= IFNAMSIZ || /[\s/%]/.test(name))
      throw new RingbellError(
        'ERR_ARGUMENT',
        `name must be the name of an interface, of ${IFNAMSIZ - 1} bytes at most, not '${name}'`,
      );
    this.#name = name;
  }

  /** Name of the interface; undefined while the device is not served. */
  get name(): string | undefined {
    return this.#tap?.name;
  }

  /** Frames that the kernel has not taken: mostly because the interface is down. */
  get refused(): number {
    return this.#refused;
  }

  /** Throws ERR_TAP. */
  override prepare({ queues }: DeviceShape): void {
    const longest = VIRTIO_NET_HDR_SIZE + this.maxFrameBytes;
    this.#tap = TapInterface.open(this.#name, queuePairs(queues), longest);
    this.#tell((queue) => queue.setCarrier(false));
  }

  override attach(context: ModelContext): AttachedModel {
    try {
      return super.attach(context);
    } catch (error) {
      if (!this.shape) this.#close();
      throw error;
    }
  }

  override started(life: Life): void {
    super.started(life);
    const flags = OFFLOADS.filter(([bit]) => life.negotiated(bit)).reduce((sum, [, flag]) => sum | flag, 0);
    this.#tell((queue) => queue.setOffload(flags));
    this.#tell((queue) => queue.setCarrier(this.link));
    for (const pair of this.#tap?.queues.keys() ?? []) this.roomAgain(pair);
  }

  override transmit(frame: Uint8Array, header: NetHeader, pair: number): void {
    const queue = this.#tap?.queues[pair];
    try {
      queue?.write(header === NO_OFFLOADS ? NO_HEADER : virtioNetHdrV1.encode(header), frame);
    } catch {
      // Networks lose frames.
      this.#refused++;
    }
  }

  override async setLink(up: boolean): Promise<void> {
    if (this.shape) this.#tell((queue) => queue.setCarrier(up));
    await super.setLink(up);
  }

  override roomAgain(pair: number): void {
    const queue = this.#tap?.queues[pair];
    queue?.watch(() => this.#read(queue, pair));
  }

  override reset(): void {
    super.reset();
    for (const queue of this.#tap?.queues ?? []) queue.pause();
    this.#tell((queue) => queue.setCarrier(false));
  }

  override closed(): void | Promise<void> {
    this.#close();
    return super.closed();
  }

  #read(queue: TapQueue, pair: number): void {
    if (!this.hasRoom(pair)) {
      // What comes meanwhile waits in the kernel, until that drops it.
      queue.pause();
      return;
    }
    let packets: Uint8Array[];
    try {
      packets = queue.read();
    } catch (error) {
      queue.pause();
      this.report(tapError(this.name!, error));
      this.setLink(false).catch((failure) => this.report(failure));
      return;
    }
    for (const packet of packets) {
      const frame = packet.subarray(VIRTIO_NET_HDR_SIZE);
      // Flags and gso_type.
      const complete = packet[0] === 0 && packet[1] === 0;
      const header = complete ? NO_OFFLOADS : virtioNetHdrV1.decode(packet.subarray(0, VIRTIO_NET_HDR_SIZE));
      this.receive(frame, header, pair);
    }
  }

  /** Has the kernel know something, unless the interface has gone. The first queue speaks for all. */
  #tell(say: (queue: TapQueue) => void): void {
    const [queue] = this.#tap?.queues ?? [];
    if (!queue) return;
    try {
      say(queue);
    } catch {
      // Whoever reads hears of it.
    }
  }

  #close(): void {
    this.#tap?.close();
    this.#tap = undefined;
  }
}
