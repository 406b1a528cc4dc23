import {
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
} from '../../assembly/virtio.js';
import { mask } from '../uapi/bits.js';

/** What a device is told to offer of its virtqueues. */
export interface RingFeatures {
  indirect: boolean;
  packed: boolean;
  inOrder: boolean;
  /** Whether each queue has a doorbell page, which is watched. */
  notificationData: boolean;
  /** Whether the transport passes the reset of one queue on. */
  ringReset: boolean;
}

/**
 * Feature bits of virtqueues, as a mask. `usesInOrder`: whether the model's data path uses requests in the order in which it
 * takes them.
 */
export function ringFeatures(
  { indirect, packed, inOrder, notificationData, ringReset }: RingFeatures,
  usesInOrder: boolean,
): bigint {
  const bits = [VIRTIO_RING_F_EVENT_IDX];
  if (indirect) bits.push(VIRTIO_RING_F_INDIRECT_DESC);
  if (packed) bits.push(VIRTIO_F_RING_PACKED);
  if (inOrder && usesInOrder) bits.push(VIRTIO_F_IN_ORDER);
  if (notificationData) bits.push(VIRTIO_F_NOTIFICATION_DATA);
  if (ringReset) bits.push(VIRTIO_F_RING_RESET);
  return mask(...bits);
}
