import {
  ETH_HLEN,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_UFO,
  VIRTIO_NET_HDR_F_DATA_VALID,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_ECN,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_UDP,
} from '../../uapi/virtio.js';

/** Bytes of a checksum. */
const CHECKSUM_BYTES = 2;
/** What a UDP checksum of 0 is sent as: 0 says that there is none. */
const MANGLED_0 = 0xffff;

/** What is left to do for a frame: struct virtio_net_hdr_v1 without `num_buffers`. Lengths and offsets in bytes. */
export interface NetHeader {
  /** VIRTIO_NET_HDR_F_*. */
  readonly flags: number;
  /** VIRTIO_NET_HDR_GSO_*. */
  readonly gso_type: number;
  /** Bytes of all headers of a frame that is to be cut into segments; a hint. */
  readonly hdr_len: number;
  /** Bytes of payload of each segment. */
  readonly gso_size: number;
  /** Where the bytes begin that the checksum covers, and how far behind that it goes. */
  readonly csum_start: number;
  readonly csum_offset: number;
}

/** The header of a frame that is complete as it is. */
export const NO_OFFLOADS: NetHeader = Object.freeze({
  ...{ flags: 0, gso_type: VIRTIO_NET_HDR_GSO_NONE, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 },
});

/** Which features let a driver send frames of a kind, and which let it be given some. */
interface Offload {
  readonly host: number;
  readonly guest: number;
}

const CHECKSUM: Offload = { host: VIRTIO_NET_F_CSUM, guest: VIRTIO_NET_F_GUEST_CSUM };
const ECN: Offload = { host: VIRTIO_NET_F_HOST_ECN, guest: VIRTIO_NET_F_GUEST_ECN };
/** By gso_type, without VIRTIO_NET_HDR_GSO_ECN. */
const SEGMENTATION: ReadonlyMap<number, Offload> = new Map([
  [VIRTIO_NET_HDR_GSO_TCPV4, { host: VIRTIO_NET_F_HOST_TSO4, guest: VIRTIO_NET_F_GUEST_TSO4 }],
  [VIRTIO_NET_HDR_GSO_TCPV6, { host: VIRTIO_NET_F_HOST_TSO6, guest: VIRTIO_NET_F_GUEST_TSO6 }],
  [VIRTIO_NET_HDR_GSO_UDP, { host: VIRTIO_NET_F_HOST_UFO, guest: VIRTIO_NET_F_GUEST_UFO }],
]);

/** Bit numbers of all features that are about offloads, of both directions. */
export const OFFLOAD_FEATURES: readonly number[] = [CHECKSUM, ECN, ...SEGMENTATION.values()].flatMap(
  ({ host, guest }) => [host, guest],
);

/** Whether a feature was negotiated, by its bit number. */
type Negotiated = (bit: number) => boolean;

/** Whether a frame with this header is one segment, whatever is to be done with its checksum. */
export function isOneSegment({ gso_type }: NetHeader): boolean {
  return gso_type === VIRTIO_NET_HDR_GSO_NONE;
}

/**
 * Whether a driver that has negotiated these features may send a frame of `bytes` bytes with this header: whether the header is
 * about bytes that the frame has. Whoever passes the frame on can rely on it.
 */
export function isSound(header: NetHeader, bytes: number, negotiated: Negotiated): boolean {
  const { flags, gso_type, hdr_len, gso_size, csum_start, csum_offset } = header;
  if (flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
    if (!negotiated(CHECKSUM.host)) return false;
    if (csum_start < ETH_HLEN || csum_start + csum_offset + CHECKSUM_BYTES > bytes) return false;
  }
  if (isOneSegment(header)) return true;
  const segmentation = SEGMENTATION.get(gso_type & ~VIRTIO_NET_HDR_GSO_ECN);
  if (!segmentation || !negotiated(segmentation.host)) return false;
  if (gso_type & VIRTIO_NET_HDR_GSO_ECN && !negotiated(ECN.host)) return false;
  // Segments are checksummed one by one ("Packet Transmission").
  return (flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0 && gso_size > 0 && hdr_len <= bytes;
}

/** Whether a driver that has negotiated these features can be given a frame with this header, its checksum apart. */
export function canSegment({ gso_type }: NetHeader, negotiated: Negotiated): boolean {
  if (gso_type === VIRTIO_NET_HDR_GSO_NONE) return true;
  const segmentation = SEGMENTATION.get(gso_type & ~VIRTIO_NET_HDR_GSO_ECN);
  if (!segmentation || !negotiated(segmentation.guest)) return false;
  return !(gso_type & VIRTIO_NET_HDR_GSO_ECN) || negotiated(ECN.guest);
}

/** Whether the driver has to be given a frame with its checksum filled in. */
export function wantsChecksum({ flags }: NetHeader, negotiated: Negotiated): boolean {
  return (flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0 && !negotiated(CHECKSUM.guest);
}

/** The flags that a driver with these features may see. */
export function visibleFlags({ flags }: NetHeader, negotiated: Negotiated): number {
  const known = VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID;
  return negotiated(CHECKSUM.guest) ? flags & known : 0;
}

/** A copy of `frame` with the checksum filled in that `header`, which is sound, asks for. */
export function fillInChecksum(frame: Uint8Array, { csum_start, csum_offset }: NetHeader): Uint8Array {
  const filled = Uint8Array.from(frame);
  let sum = 0;
  for (let at = csum_start; at < filled.length; at += 2) sum += (filled[at]! << 8) | (filled[at + 1] ?? 0);
  // The frame has less than 2^17 bytes: the sum has less than 2^32.
  sum = (sum & 0xffff) + (sum >>> 16);
  sum = (sum & 0xffff) + (sum >>> 16);
  const checksum = ~sum & 0xffff || MANGLED_0;
  filled[csum_start + csum_offset] = checksum >> 8;
  filled[csum_start + csum_offset + 1] = checksum & 0xff;
  return filled;
}
