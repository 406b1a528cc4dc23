import { closeSync } from 'node:fs';
import {
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_VERSION_1,
  VIRTIO_ID_NET,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_HDR_SIZE,
  VIRTIO_NET_S_LINK_UP,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTQ_AVAIL_IDX,
  VIRTQ_AVAIL_RING,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
  VIRTQ_USED_ENTRY_SIZE,
  VIRTQ_USED_IDX,
  VIRTQ_USED_RING,
} from '../../assembly/virtio.js';
import { Aperture, type Window } from '../../host/aperture/aperture.js';
import { type AttachOptions, Bus } from '../../host/bus/index.js';
import { type OpenNetOptions, openNet } from '../../host/drivers/net.js';
import type { NetInterface } from '../../host/drivers/net-interface.js';
import { loadAddon, type Watcher } from '../../host/native/addon.js';
import type { Decoded } from '../../host/uapi/struct.js';
import * as vduse from '../../host/uapi/vduse.js';
import { virtioNetConfig } from '../../host/uapi/virtio.js';
import type { VduseFile } from '../../host/vduse/file.js';
import { createDevice, Responder, within } from '../bus/fixture.js';

export const MAC = [0x52, 0x54, 0, 0xaa, 0xbb, 0xcc];
const LAST = 2n ** 64n - 1n;

/** What a test device is like. */
export interface TestNetOptions extends AttachOptions {
  queueSize?: number;
  /** Feature bits to leave out. */
  without?: number[];
  config?: Partial<Decoded<typeof virtioNetConfig>>;
  /** Frames are left on the transmit queue until `release`. */
  hold?: boolean;
  /** Milliseconds that the scene may take. */
  patience?: number;
}

/** A virtqueue as a device sees it: written by hand, against the specification and not against the engine. */
class TestQueue {
  readonly callFd: number;
  readonly watcher: Watcher;
  readonly #view: DataView;
  readonly #info: ReturnType<typeof vduse.vduseVqInfo.decode>;
  readonly #at: (iova: bigint) => number;
  /** Next entries of the available and the used ring. */
  avail = 0;
  used = 0;

  constructor(
    view: DataView,
    at: (iova: bigint) => number,
    info: ReturnType<typeof vduse.vduseVqInfo.decode>,
    fds: { kick: number; call: number },
    serve: () => void,
  ) {
    this.#view = view;
    this.#at = at;
    this.#info = info;
    this.callFd = fds.call;
    this.watcher = loadAddon().watch(fds.kick, () => {
      loadAddon().eventfdDrain(fds.kick);
      serve();
    });
    this.watcher.unref();
  }

  /** Chains that the driver has made available. */
  get pending(): number {
    const index = this.#view.getUint16(this.#at(this.#info.driver_addr) + VIRTQ_AVAIL_IDX, true);
    return (index - this.avail) & 0xffff;
  }

  /** Takes the next chain, of one descriptor. */
  take(): { head: number; bytes: Uint8Array; writable: boolean } {
    const view = this.#view;
    const ring = this.#at(this.#info.driver_addr) + VIRTQ_AVAIL_RING;
    const head = view.getUint16(ring + (this.avail++ % this.#info.num) * 2, true);
    const descriptor = this.#at(this.#info.desc_addr) + head * VIRTQ_DESC_SIZE;
    const flags = view.getUint16(descriptor + 12, true);
    if (flags & ~VIRTQ_DESC_F_WRITE) throw new Error(`flags ${flags}: not one descriptor`);
    const start = this.#at(view.getBigUint64(descriptor, true));
    const bytes = new Uint8Array(view.buffer, view.byteOffset + start, view.getUint32(descriptor + 8, true));
    return { head, bytes, writable: flags === VIRTQ_DESC_F_WRITE };
  }

  /** Writes over the descriptor table and the available ring. */
  scribble(): void {
    const fill = (iova: bigint, bytes: number) =>
      new Uint8Array(this.#view.buffer, this.#view.byteOffset + this.#at(iova), bytes).fill(0xee);
    fill(this.#info.desc_addr, this.#info.num * VIRTQ_DESC_SIZE);
    fill(this.#info.driver_addr + BigInt(VIRTQ_AVAIL_RING), this.#info.num * 2);
  }

  /** Gives a chain back, or says so. */
  give(id: number, bytes: number): void {
    const ring = this.#at(this.#info.device_addr);
    const entry = ring + VIRTQ_USED_RING + (this.used++ % this.#info.num) * VIRTQ_USED_ENTRY_SIZE;
    this.#view.setUint32(entry, id, true);
    this.#view.setUint32(entry + 4, bytes, true);
    this.#view.setUint16(ring + VIRTQ_USED_IDX, this.used, true);
  }

  /** Asks for a kick at the next chain, in the word of VIRTIO_RING_F_EVENT_IDX. */
  arm(): void {
    const event = VIRTQ_USED_RING + this.#info.num * VIRTQ_USED_ENTRY_SIZE;
    this.#view.setUint16(this.#at(this.#info.device_addr) + event, this.avail, true);
  }

  interrupt(): void {
    loadAddon().eventfdSignal(this.callFd);
  }
}

/** A network device that sends every frame back where it came from: as little device as a driver needs. */
export class TestNet {
  held: boolean;
  /** Frames that arrived, with their headers. */
  readonly arrived: Uint8Array[] = [];
  /** Whether what was read is written over at once. */
  scribbles = false;
  queues: TestQueue[] = [];
  readonly #aperture = Aperture.create({ bytes: 2 ** 28, privateBytes: 2 ** 16 });
  readonly #file: VduseFile;
  #window: Window | undefined;
  #view: DataView | undefined;
  #at: (iova: bigint) => number = Number;
  /** Queues that the driver has reset. */
  readonly #stopped = [false, false];

  constructor(file: VduseFile, options: TestNetOptions) {
    this.#file = file;
    this.held = options.hold ?? false;
    new Responder(file).answer = async (request) => {
      if (request.type === vduse.VDUSE_SET_STATUS) {
        if (!(request.s.status & VIRTIO_CONFIG_S_DRIVER_OK)) this.#stop();
        else if (this.queues.length === 0) await this.#start();
      } else if (request.type === vduse.VDUSE_UPDATE_IOTLB) this.#stop();
      else if (request.type === vduse.VDUSE_SET_VQ_READY && this.queues.length > 0)
        await this.#setReady(request.vq_ready.num, request.vq_ready.ready !== 0);
      return {};
    };
  }

  get receive(): TestQueue {
    return this.queues[0] as TestQueue;
  }

  get transmit(): TestQueue {
    return this.queues[1] as TestQueue;
  }

  /** What the device has mapped of the driver's memory. */
  get visible(): Uint8Array {
    return this.#aperture.viewOwn(this.#window as Window);
  }

  /** Lets held frames go. */
  release(): void {
    this.held = false;
    this.#serve();
  }

  /** Puts a frame, with its header, into the next buffer of the receive queue; `claimed`: the length that it says. */
  deliver(frame: Uint8Array, claimed = frame.byteLength): void {
    const { head, bytes, writable } = this.receive.take();
    if (!writable) throw new Error('a buffer that cannot be written to');
    bytes.set(frame);
    this.receive.give(head, claimed);
    this.receive.interrupt();
  }

  close(): void {
    this.#stop();
    this.#aperture.close();
  }

  async #start(): Promise<void> {
    const entry = vduse.vduseIotlbEntry.encode({ start: 0n, last: LAST });
    const fd = await this.#file.ioctl(vduse.VDUSE_IOTLB_GET_FD, entry);
    const region = vduse.vduseIotlbEntry.decode(entry);
    const bytes = Number(region.last - region.start + 1n);
    this.#window = this.#aperture.map({ fd, offset: region.offset }, bytes, 'rw');
    closeSync(fd);
    this.#view = new DataView(this.#aperture.memory.buffer, this.#window.linear, bytes);
    this.#at = (iova: bigint) => Number(iova - region.start);
    for (const index of [0, 1]) this.queues[index] = await this.#startQueue(index);
    this.#serve();
  }

  async #startQueue(index: number): Promise<TestQueue> {
    const info = vduse.vduseVqInfo.encode({ index });
    await this.#file.ioctl(vduse.VDUSE_VQ_GET_INFO, info);
    const own = loadAddon().eventfd();
    await this.#file.ioctl(vduse.VDUSE_VQ_SETUP_KICKFD, vduse.vduseVqEventfd.encode({ index, fd: own }));
    closeSync(own);
    const fds = { kick: await this.#file.kickFd(index, own), call: await this.#file.callFd(index) };
    return new TestQueue(this.#view!, this.#at, vduse.vduseVqInfo.decode(info), fds, () => this.#serve());
  }

  /** The driver resets a queue, or starts it again: it holds what it knows of the other. */
  async #setReady(index: number, ready: boolean): Promise<void> {
    this.#stopped[index] = !ready;
    if (!ready) return this.queues[index]?.watcher.close();
    this.queues[index] = await this.#startQueue(index);
    // The transport takes it for ready only after the answer.
    setImmediate(() => this.#serve());
  }

  #serve(): void {
    if (this.queues.length < 2 || this.held || this.#stopped.some(Boolean)) return;
    while (this.transmit.pending > 0 && this.receive.pending > 0) {
      const { head, bytes, writable } = this.transmit.take();
      if (writable) throw new Error('a frame to transmit that can be written to');
      const frame = bytes.slice();
      this.arrived.push(frame.slice());
      if (this.scribbles) bytes.fill(0xee);
      this.transmit.give(head, 0);
      // What the specification has a device say of a frame in one buffer: num_buffers.
      frame[VIRTIO_NET_HDR_SIZE - 2] = 1;
      this.deliver(frame);
    }
    for (const queue of this.queues) queue.arm();
    this.transmit.interrupt();
  }

  #stop(): void {
    for (const queue of this.queues.splice(0)) queue.watcher.close();
    if (this.#window) this.#aperture.unmap(this.#window);
    this.#window = undefined;
  }
}

/** A network device on a bus of its own, and a driver that has it open. */
export interface NetScene {
  bus: Bus;
  device: TestNet;
  net: NetInterface;
  file: VduseFile;
}

/** Puts a test device on a new bus. */
export async function serveTestNet(
  options: TestNetOptions = {},
): Promise<{ bus: Bus; device: TestNet; file: VduseFile }> {
  const bits = [
    VIRTIO_F_VERSION_1,
    VIRTIO_F_ACCESS_PLATFORM,
    VIRTIO_RING_F_EVENT_IDX,
    VIRTIO_NET_F_MAC,
    VIRTIO_NET_F_MTU,
    VIRTIO_NET_F_STATUS,
    VIRTIO_F_RING_RESET,
  ].filter((bit) => !options.without?.includes(bit));
  const bus = new Bus();
  const { file } = await createDevice(bus, {
    name: 'net0',
    deviceId: VIRTIO_ID_NET,
    features: bits.reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n),
    queues: 2,
    queueSize: options.queueSize ?? 256,
    vduseFeatures: 1n << BigInt(vduse.VDUSE_F_QUEUE_READY),
    config: virtioNetConfig.encode({
      mac: MAC,
      status: VIRTIO_NET_S_LINK_UP,
      mtu: 1500,
      ...options.config,
    }),
  });
  const device = new TestNet(file, options);
  await bus.attach('net0', options);
  return { bus, device, file };
}

/** Serves a network device, opens it, plays `act` and takes everything down. */
export async function netScene(
  act: (scene: NetScene) => Promise<void>,
  options: TestNetOptions = {},
  open: OpenNetOptions = {},
): Promise<void> {
  const { bus, device, file } = await serveTestNet(options);
  try {
    const net = await within(openNet('net0', { bus, ...open }), 'opening the device');
    try {
      await within(act({ bus, device, net, file }), 'the scene', options.patience);
    } finally {
      device.release();
      await within(net.close(), 'closing the device');
    }
  } finally {
    await within(bus.close(), 'closing the bus');
    device.close();
  }
}

/** A frame of `bytes` bytes, different for each `seed`. */
export function testFrame(bytes: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, index) => (index * 31 + (index >> 8) + seed * 101) & 0xff);
}
