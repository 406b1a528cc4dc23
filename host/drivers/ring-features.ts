import {
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
  VIRTIO_RING_F_EVENT_IDX,
} from '../../assembly/virtio.js';
import { hasBit, mask } from '../uapi/bits.js';

/** Options of a driver that say which features of virtqueues it wants; each true if left out. */
interface RingOptions {
  eventIdx?: boolean | undefined;
  packed?: boolean | undefined;
  inOrder?: boolean | undefined;
  doorbell?: boolean | undefined;
}

/** Features of virtqueues that these options want, as a mask. */
export function ringFeatures({
  eventIdx = true,
  packed = true,
  inOrder = true,
  doorbell = true,
}: RingOptions): bigint {
  const bits: number[] = [VIRTIO_F_RING_RESET];
  if (eventIdx) bits.push(VIRTIO_RING_F_EVENT_IDX);
  if (packed) bits.push(VIRTIO_F_RING_PACKED);
  if (inOrder) bits.push(VIRTIO_F_IN_ORDER);
  if (doorbell) bits.push(VIRTIO_F_NOTIFICATION_DATA);
  return mask(...bits);
}

/**
 * What of `features` can be accepted together: IN_ORDER with packed rings only, since a split one would have to be filled in
 * the order of its descriptor table.
 */
export function compatible(features: bigint): bigint {
  return hasBit(features, VIRTIO_F_RING_PACKED) ? features : features & ~mask(VIRTIO_F_IN_ORDER);
}
