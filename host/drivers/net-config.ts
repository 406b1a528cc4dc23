import {
  ETH_HLEN,
  VIRTIO_NET_CONFIG_BYTES,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_S_LINK_UP,
} from '../../assembly/virtio.js';
import { RingbellError } from '../errors.js';
import { hasBit } from '../uapi/bits.js';
import { virtioNetConfig } from '../uapi/virtio.js';
import { formatMacAddress } from '../vdpa/config.js';
import type { VirtioDriver } from './virtio-driver.js';

/** Bytes; what Ethernet carries where the device says nothing. */
const ETH_DATA_LEN = 1500;
/** Bytes; the smallest MTU that the specification lets a device have. */
const ETH_MIN_MTU = 68;
/** Bytes of a VLAN tag, which the MTU does not count. */
const VLAN_HLEN = 4;

/** A network device's config space, as far as the negotiated features make it valid. */
export interface NetConfig {
  /** Address in the form '52:54:00:12:34:56'; undefined where the device leaves it to its driver. */
  readonly mac: string | undefined;
  /** Bytes that a frame carries behind its Ethernet header. */
  readonly mtu: number;
  /** Whether there is somebody at the other end of the wire. True where the device says nothing. */
  readonly linkUp: boolean;
}

/** Bytes of the longest frame at an MTU: with its Ethernet header and one VLAN tag. */
export function maxFrameBytes(mtu: number): number {
  return ETH_HLEN + VLAN_HLEN + mtu;
}

/** Reads and decodes a network device's config space. Rejects as decodeNetConfig throws. */
export async function readNetConfig(driver: VirtioDriver): Promise<NetConfig> {
  const { device, features } = driver;
  const bytes = Math.min(device.configSize ?? VIRTIO_NET_CONFIG_BYTES, VIRTIO_NET_CONFIG_BYTES);
  return decodeNetConfig(await device.config(bytes), features);
}

/** Decodes a config space that may be shorter than the struct. Throws ERR_NOT_SUPPORTED for an MTU below 68 bytes. */
export function decodeNetConfig(bytes: Uint8Array, features: bigint): NetConfig {
  const padded = new Uint8Array(virtioNetConfig.size);
  padded.set(bytes.subarray(0, padded.length));
  const raw = virtioNetConfig.decode(padded);
  const has = (bit: number) => hasBit(features, bit);
  const mtu = has(VIRTIO_NET_F_MTU) ? raw.mtu : ETH_DATA_LEN;
  if (mtu < ETH_MIN_MTU)
    throw new RingbellError('ERR_NOT_SUPPORTED', `the MTU is ${mtu} bytes, less than ${ETH_MIN_MTU}`);
  return {
    mac: has(VIRTIO_NET_F_MAC) ? formatMacAddress(raw.mac) : undefined,
    mtu,
    linkUp: !has(VIRTIO_NET_F_STATUS) || (raw.status & VIRTIO_NET_S_LINK_UP) !== 0,
  };
}
