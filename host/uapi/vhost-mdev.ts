/**
 * The numbers of the mdev-based vhost backend, as "[RFC v3] vhost: introduce mdev based hardware vhost backend" (Tiwei Bie,
 * linux-kernel, 28 August 2019) puts them into <linux/vhost.h> and <linux/vfio.h>. No kernel has ever had them: the number
 * of VHOST_MDEV_SET_STATE went to VHOST_VDPA_GET_DEVICE_ID (the other direction), the bit of VFIO_DEVICE_FLAGS_VHOST to
 * VFIO_DEVICE_FLAGS_FSL_MC.
 */
import { u64 } from './codec.js';
import { iow } from './ioc.js';
import { VHOST_VIRTIO } from './vhost.js';

/** The device answers to vhost's ioctls (vfio_device_info.flags). */
export const VFIO_DEVICE_FLAGS_VHOST = 1 << 6;

/** The device is idle. Its queues keep their positions. */
export const VHOST_MDEV_S_STOPPED = 0;
/** The device serves the queues that were set up. */
export const VHOST_MDEV_S_RUNNING = 1;
/** First value that is no state. */
export const VHOST_MDEV_S_MAX = 2;

/** Takes a u64: VHOST_MDEV_S_*. */
export const VHOST_MDEV_SET_STATE = iow(VHOST_VIRTIO, 0x70, u64);
