/**
 * What the in-process bus adds to vhost-vdpa: the reset of one virtqueue (VIRTIO_F_RING_RESET, "Virtqueue Reset"). The kernel's
 * vhost-vdpa cannot pass one on, whatever its parent offers: struct vdpa_config_ops has no operation for it, and the addresses
 * of a queue are fixed from DRIVER_OK on. Both numbers are far from those that a kernel gives next.
 */
import { iow } from '../uapi/ioc.js';
import { VHOST_VIRTIO, vhostVringState } from '../uapi/vhost.js';

/** Backend feature, a bit number: the device takes VHOST_VDPA_RESET_VRING. */
export const VHOST_BACKEND_F_RESET_VRING = 62;

/**
 * Takes a vhost_vring_state, of which the index counts: owner. When it returns the device has let go of the queue, which has no
 * size, no addresses, the position of a fresh one, and is not ready. It is set up again by the ioctls that do so before
 * DRIVER_OK. EOPNOTSUPP unless VIRTIO_F_RING_RESET was negotiated, EINVAL unless the driver runs and the queue is ready, EIO
 * when the device does not confirm.
 */
export const VHOST_VDPA_RESET_VRING = iow(VHOST_VIRTIO, 0xf0, vhostVringState);
