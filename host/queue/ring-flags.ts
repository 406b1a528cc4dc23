import {
  VQ_F_EVENT_IDX,
  VQ_F_IN_ORDER,
  VQ_F_INDIRECT_DESC,
  VQ_F_NOTIFICATION_DATA,
  VQ_F_PACKED,
} from '../../assembly/layout.js';
import {
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_RING_PACKED,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
} from '../../assembly/virtio.js';
import { hasBit } from '../uapi/bits.js';

/** What the engine has to know of the features negotiated, for either side of a queue: VQ_F_* bits. */
export function ringFlags(features: bigint): number {
  let flags = 0;
  if (hasBit(features, VIRTIO_RING_F_EVENT_IDX)) flags |= VQ_F_EVENT_IDX;
  if (hasBit(features, VIRTIO_RING_F_INDIRECT_DESC)) flags |= VQ_F_INDIRECT_DESC;
  if (hasBit(features, VIRTIO_F_RING_PACKED)) flags |= VQ_F_PACKED;
  if (hasBit(features, VIRTIO_F_IN_ORDER)) flags |= VQ_F_IN_ORDER;
  if (hasBit(features, VIRTIO_F_NOTIFICATION_DATA)) flags |= VQ_F_NOTIFICATION_DATA;
  return flags;
}
