import { randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import { RingbellError } from '../../errors.js';
import { type CaptureTarget, checkCapture } from '../../observability/frame-capture.js';
import { checkBoolean, checkInteger, checkOptions } from '../../options.js';
import {
  ETH_ALEN,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_STATUS,
} from '../../uapi/virtio.js';
import { formatMacAddress, parseMacAddress } from '../../vdpa/config.js';
import { OFFLOAD_FEATURES } from './net-header.js';

/** Bytes; the bounds of an MTU: the specification's least, and what fits the field. */
const ETH_MIN_MTU = 68;
const ETH_MAX_MTU = 65535;
const ETH_DATA_LEN = 1500;
/** The bits of an address's first byte that say: of many devices, given by whoever runs the network. */
const MULTICAST = 1;
const LOCALLY_ADMINISTERED = 2;

/** What a network device is to be. */
export interface NetOptions {
  /** Its address, as '52:54:00:12:34:56'; a random one if left out. */
  mac?: string | undefined;
  /** Bytes that a frame carries behind its Ethernet header: 68 to 65,535; 1,500 if left out. */
  mtu?: number | undefined;
  /** Whether a frame may lie in several buffers of the driver (VIRTIO_NET_F_MRG_RXBUF); true if left out. */
  mergeable?: boolean | undefined;
  /**
   * Whether the driver may send frames whose checksum is not filled in, and that are to be cut into segments, and may accept such
   * frames; false if left out. `transmit` gets the frames as they are.
   */
  offloads?: boolean | undefined;
  /**
   * Where to write every frame that passes, as pcapng: a path, which is written anew each time the device is served, or a stream of
   * bytes, which is left open. Default: nowhere.
   */
  capture?: CaptureTarget | undefined;
}

export const NET_OPTION_NAMES = ['mac', 'mtu', 'mergeable', 'offloads', 'capture'];

/** The options of a network device, judged and completed. */
export interface NetShape {
  mac: string;
  mtu: number;
  mergeable: boolean;
  offloads: boolean;
  capture: CaptureTarget | undefined;
}

/** Judges and completes the options that `caller` was given. Throws TypeError, ERR_ARGUMENT. */
export function netShape(
  caller: string,
  options: NetOptions,
  names: readonly string[] = NET_OPTION_NAMES,
): NetShape {
  checkOptions(caller, options, names);
  const { mac = randomMac(), mtu = ETH_DATA_LEN, mergeable = true, offloads = false, capture } = options;
  if (typeof mac !== 'string' || !parseMacAddress(mac))
    throw new RingbellError(
      'ERR_ARGUMENT',
      `mac must be the address of one device, such as '52:54:00:12:34:56', not ${inspect(mac)}`,
    );
  checkInteger('mtu', mtu, ETH_MIN_MTU, ETH_MAX_MTU);
  checkBoolean('mergeable', mergeable);
  checkBoolean('offloads', offloads);
  checkCapture(capture);
  return { mac: mac.toLowerCase(), mtu, mergeable, offloads, capture };
}

/** Bit numbers of all features that a network device of ours may have. */
export const NET_FEATURES: readonly number[] = [
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MQ,
  ...OFFLOAD_FEATURES,
];

/** Those that a device of this shape offers with `queues` queues. */
export function netFeatures({ mergeable, offloads }: NetShape, queues: number): number[] {
  const bits = [VIRTIO_NET_F_MTU, VIRTIO_NET_F_MAC, VIRTIO_NET_F_STATUS];
  if (mergeable) bits.push(VIRTIO_NET_F_MRG_RXBUF);
  if (offloads) bits.push(...OFFLOAD_FEATURES);
  if (hasControlQueue(queues)) bits.push(VIRTIO_NET_F_CTRL_VQ);
  if (queuePairs(queues) > 1) bits.push(VIRTIO_NET_F_MQ);
  return bits;
}

/** Whether one of so many queues is the control queue: the odd one out. */
export function hasControlQueue(queues: number): boolean {
  return queues % 2 === 1;
}

/** Pairs of a receive and a transmit queue. Throws ERR_ARGUMENT where a driver could not choose how many it uses. */
export function queuePairs(queues: number): number {
  const pairs = Math.floor(queues / 2);
  if (pairs > 1 && !hasControlQueue(queues))
    throw new RingbellError(
      'ERR_ARGUMENT',
      `a driver uses ${pairs} pairs of queues by way of a control queue: ${queues + 1} queues, not ${queues}`,
    );
  return pairs;
}

function randomMac(): string {
  const bytes = [...randomBytes(ETH_ALEN)];
  bytes[0] = (bytes[0]! & ~MULTICAST) | LOCALLY_ADMINISTERED;
  return formatMacAddress(bytes);
}
