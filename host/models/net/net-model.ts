import { inspect } from 'node:util';
import { PAGE_SIZE } from '../../../assembly/layout.js';
import { type CaptureStats, FrameCapture, FrameTap } from '../../observability/frame-capture.js';
import { type Direction, INBOUND, OUTBOUND } from '../../observability/pcapng.js';
import { checkBoolean } from '../../options.js';
import {
  ETH_HLEN,
  VIRTIO_ID_NET,
  VIRTIO_NET_CONFIG_SPEED,
  VIRTIO_NET_ERR,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_SIZE,
  VIRTIO_NET_S_LINK_UP,
  VIRTQ_DESC_SIZE,
  virtioNetConfig,
  virtioNetHdrV1,
} from '../../uapi/virtio.js';
import { parseMacAddress } from '../../vdpa/config.js';
import type { Chain } from '../chain.js';
import { DeviceModel } from '../device-model.js';
import type { DeviceShape, Manifest } from '../manifest.js';
import type { Life } from '../model-host.js';
import type { ModelQueue } from '../model-queue.js';
import { control } from './control-queue.js';
import { isOneSegment, isSound, type NetHeader, NO_OFFLOADS } from './net-header.js';
import {
  NET_FEATURES,
  NET_OPTION_NAMES,
  type NetOptions,
  type NetShape,
  netFeatures,
  netShape,
  queuePairs,
} from './net-options.js';
import { type NetStats, noStats } from './net-stats.js';
import { ReceiveQueue } from './receive-queue.js';

/** Bytes of two VLAN tags, which an MTU does not count. */
const VLAN_TAGS = 8;
/** Bytes of what is sent to be cut into segments: an IP packet at most, with what is in front of it. */
const SEGMENTED_BYTES = ETH_HLEN + VLAN_TAGS + 65535;
/** Bytes of a receive buffer at most. Drivers without mergeable buffers give 17 pages for frames of many segments. */
const BUFFER_BYTES = 2 ** 18;
/** Bytes of the receive buffers that drivers like to give: a page, or what is left of two. */
const USUAL_BUFFER_BYTES = 2 * PAGE_SIZE;
/** Bytes of the descriptors of a chain, of which it may have one a page. */
const DESCRIPTORS_BYTES = 18 * VIRTQ_DESC_SIZE;
/** Where in its header the two words are that say whether there is anything else in it. */
const VIRTIO_NET_HDR_FLAGS = 0;
const VIRTIO_NET_HDR_GSO_TYPE = 1;
/** Queues at most: as many as a device can be served with. */
const QUEUES_LIMIT = 64;

/**
 * A network device whose other end is TypeScript: extend it, and give `serve` an instance. `transmit` gets what the driver sends;
 * `receive` hands the driver a frame. It has a pair of queues, or, with an odd number of queues, several and a control queue.
 * Frames are Ethernet frames without their frame check sequence, judged already.
 */
export abstract class NetModel extends DeviceModel {
  override readonly manifest: Manifest;
  /** How a command of the control queue ends that fails; of no other chain does anybody read it. */
  override readonly errorStatus: number = VIRTIO_NET_ERR;
  readonly #options: NetShape;
  readonly #stats = noStats();
  #receiveQueues: ReceiveQueue[] = [];
  #transmitTaps: (FrameTap | undefined)[] = [];
  /** Pairs of queues that the driver uses, and all of them. */
  #activePairs = 1;
  #pairs = 1;
  #link = true;
  /** There is a driver. */
  #running = false;
  #capture: FrameCapture | undefined;

  /** Throws TypeError, ERR_ARGUMENT. `names` are the options of a class of yours, if it has others. */
  constructor(options: NetOptions = {}, names: readonly string[] = []) {
    super();
    this.#options = netShape(new.target.name, options, [...NET_OPTION_NAMES, ...names]);
    this.manifest = {
      deviceId: VIRTIO_ID_NET,
      features: NET_FEATURES,
      queues: { minimum: 2, maximum: QUEUES_LIMIT },
      // How many pairs are in use, which the control queue says, concerns all of them.
      queueGroup: QUEUES_LIMIT,
      limits: {
        chainBytes: BUFFER_BYTES,
        bounceBytes:
          Math.max(VIRTIO_NET_HDR_SIZE + this.maxFrameBytes, USUAL_BUFFER_BYTES) + DESCRIPTORS_BYTES,
      },
    };
  }

  /**
   * The driver has sent `frame`, which is yours to keep, by pair `pair` of queues. Of a promise the driver waits for the end.
   * `header` says what is left to do for it: without `offloads`, nothing (NO_OFFLOADS).
   */
  abstract transmit(frame: Uint8Array, header: NetHeader, pair: number): void | Promise<void>;

  /** Frames can be received again by pair `pair`, after `hasRoom` has said no. */
  roomAgain?(pair: number): void;

  /** Its address, as '52:54:00:12:34:56'. */
  get mac(): string {
    return this.#options.mac;
  }

  /** Bytes that a frame carries behind its Ethernet header. */
  get mtu(): number {
    return this.#options.mtu;
  }

  /** Whether drivers may leave checksums and segmentation to it. */
  get offloads(): boolean {
    return this.#options.offloads;
  }

  /** Bytes of the longest frame: with its Ethernet header and two VLAN tags, or before it is cut into segments. */
  get maxFrameBytes(): number {
    return Math.max(this.#segmentBytes, this.#options.offloads ? SEGMENTED_BYTES : 0);
  }

  /** Whether the link is up; `setLink` changes it. */
  get link(): boolean {
    return this.#link;
  }

  /**
   * Sets the link up or down, and tells the driver; frames of either direction are dropped while it is down. Rejects as
   * `configChanged`, except that a device that is not served need not be told.
   */
  async setLink(up: boolean): Promise<void> {
    checkBoolean('up', up);
    if (up === this.#link) return;
    this.#link = up;
    if (this.shape) await this.configChanged();
  }

  /**
   * Hands `frame` to the driver by pair `pair` of queues, or another if that is not in use; it is copied when the driver has a buffer
   * for it, so leave it alone. False where it is dropped, for a reason that `stats` has.
   */
  receive(frame: Uint8Array, header: NetHeader = NO_OFFLOADS, pair = 0): boolean {
    const stats = this.#stats;
    const queue = this.#receiveQueues[pair % this.#activePairs];
    if (!this.#link) stats.linkDown++;
    else if (!queue || !this.#running || !this.#fits(frame.length, header)) stats.notReceivable++;
    else return queue.receive(frame, header);
    return false;
  }

  /**
   * Whether `receive` has room for a burst of frames: no more than half of those wait for buffers that may. `roomAgain` tells
   * of it later where it has not.
   */
  hasRoom(pair = 0): boolean {
    if (!this.#running) return false;
    return this.#receiveQueues[pair % this.#activePairs]!.hasRoom();
  }

  /** What it has counted since it was made. */
  stats(): NetStats {
    return { ...this.#stats };
  }

  /** What has come of the capture; undefined without one. */
  get capture(): CaptureStats | undefined {
    return this.#capture?.stats;
  }

  override features({ queues }: DeviceShape): number[] {
    return netFeatures(this.#options, queues);
  }

  override config({ queues }: DeviceShape): Uint8Array {
    const { mac, mtu } = this.#options;
    const config = virtioNetConfig.encode({
      mac: parseMacAddress(mac)!,
      status: this.#link ? VIRTIO_NET_S_LINK_UP : 0,
      max_virtqueue_pairs: queuePairs(queues),
      mtu,
    });
    return config.subarray(0, VIRTIO_NET_CONFIG_SPEED);
  }

  /** A model that has one of its own calls this one, too. */
  override started(_life: Life): void {
    this.#running = true;
    if (this.#receiveQueues.length === 0) this.#setUp(this.shape!);
  }

  override handle(chains: readonly Chain[], queue: ModelQueue): void {
    const { index } = queue;
    const pairs = queue.negotiated(VIRTIO_NET_F_MQ) ? this.#pairs : 1;
    if (index < 2 * pairs) {
      const pair = index >> 1;
      if (index % 2 === 0) this.#receiveQueues[pair]!.offer(chains, queue);
      else for (const chain of chains) this.#transmit(chain, queue, pair);
    } else if (index === 2 * pairs && queue.negotiated(VIRTIO_NET_F_CTRL_VQ)) {
      const setPairs = (count: number) => {
        this.#activePairs = count;
      };
      for (const chain of chains) control(chain, pairs, setPairs);
    } else for (const chain of chains) chain.refuse();
  }

  /** A model that has one of its own calls this one, too. */
  override reset(): void {
    this.#running = false;
    this.#activePairs = 1;
    for (const queue of this.#receiveQueues) queue.clear();
  }

  override queueReset({ index }: ModelQueue): void {
    if (index % 2 === 0) this.#receiveQueues[index >> 1]?.clear();
  }

  /** A model that has one of its own calls this one, too. */
  override closed(): void | Promise<void> {
    this.#receiveQueues = [];
    return this.#capture?.close();
  }

  /** Of each instance: in queue threads there is one a thread. */
  #setUp({ queues }: DeviceShape): void {
    const pairs = Array.from({ length: queuePairs(queues) }, (_, pair) => pair);
    const { capture, mac } = this.#options;
    this.#pairs = pairs.length;
    this.#capture =
      capture === undefined
        ? undefined
        : FrameCapture.start(
            capture,
            pairs.map((pair) => ({
              name: `${this.constructor.name} ${pair}`,
              description: `the device's side: receive queue ${2 * pair}, transmit queue ${2 * pair + 1}`,
              mac,
            })),
          );
    const tap = (pair: number, direction: Direction) =>
      this.#capture &&
      new FrameTap(this.#capture, pair, direction, 2 * pair + (direction === OUTBOUND ? 1 : 0));
    this.#transmitTaps = pairs.map((pair) => tap(pair, OUTBOUND));
    this.#receiveQueues = pairs.map(
      (pair) => new ReceiveQueue(this.#stats, tap(pair, INBOUND), () => this.roomAgain?.(pair)),
    );
  }

  #transmit(chain: Chain, queue: ModelQueue, pair: number): void {
    if (chain.writableBytes > 0 || chain.readableBytes < VIRTIO_NET_HDR_SIZE) {
      chain.refuse();
      return;
    }
    const stats = this.#stats;
    const bytes = chain.readableBytes - VIRTIO_NET_HDR_SIZE;
    const header = headerOf(chain);
    const sound = isSound(header, bytes, (bit) => queue.negotiated(bit));
    if (!sound || !this.#fits(bytes, header)) stats.malformed++;
    else if (!this.#link) stats.linkDown++;
    else {
      stats.transmitted++;
      queue.countBytes(0, bytes);
      const frame = chain.read(VIRTIO_NET_HDR_SIZE, bytes);
      const tap = this.#transmitTaps[pair];
      tap?.begin();
      tap?.record(frame);
      finish(chain, () => this.transmit(frame, header, pair));
      return;
    }
    chain.complete();
  }

  get #segmentBytes(): number {
    return ETH_HLEN + VLAN_TAGS + this.#options.mtu;
  }

  #fits(bytes: number, header: NetHeader): boolean {
    return bytes >= ETH_HLEN && bytes <= (isOneSegment(header) ? this.#segmentBytes : this.maxFrameBytes);
  }

  override [inspect.custom](): string {
    return `${this.constructor.name} { ${this.mac}, MTU ${this.mtu}, link ${this.link ? 'up' : 'down'} }`;
  }
}

/** What a driver says of a frame that it sends. Flags that are not its to set are none ("Packet Transmission"). */
function headerOf(chain: Chain): NetHeader {
  const flags = chain.getUint8(VIRTIO_NET_HDR_FLAGS) & VIRTIO_NET_HDR_F_NEEDS_CSUM;
  if (flags === 0 && chain.getUint8(VIRTIO_NET_HDR_GSO_TYPE) === VIRTIO_NET_HDR_GSO_NONE) return NO_OFFLOADS;
  return { ...virtioNetHdrV1.decode(chain.read(0, VIRTIO_NET_HDR_SIZE)), flags };
}

/** Calls a handler, and ends its chain when it has ended. */
function finish(chain: Chain, handler: () => void | Promise<void>): void {
  try {
    const result = handler();
    if (result === undefined) chain.complete();
    else
      Promise.resolve(result)
        .then(() => chain.complete())
        .catch((error) => chain.fail(error));
  } catch (error) {
    chain.fail(error);
  }
}
