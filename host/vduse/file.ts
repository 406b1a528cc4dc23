import type { MapSource } from '../native/addon.js';

/**
 * The device's seam: /dev/vduse/control and an open /dev/vduse/NAME. Implemented by the kernel's character devices and
 * by the in-process bus, with the same ioctl numbers, byte layouts and errnos (host/uapi/vduse.ts). Every failure rejects
 * with a SystemError (code, errno, syscall).
 */

/** /dev/vduse/control. */
export interface VduseControlFile {
  ioctl(request: number, argument?: Uint8Array): Promise<number>;
  /** Opens /dev/vduse/NAME. Exclusive: EBUSY while it is open, ENOENT when it was not created. */
  open(name: string): Promise<VduseFile>;
  /** What tells the device from every other that has had, or will have, its name. ENOENT when it was not created. */
  instance(name: string): Promise<string>;
  close(): Promise<void>;
}

/** /dev/vduse/NAME. */
export interface VduseFile {
  readonly name: string;
  /** `argument` is the ioctl's structure, read and written in place. Resolves to the result: a new fd for IOTLB_GET_FD. */
  ioctl(request: number, argument?: Uint8Array): Promise<number>;
  /** The next struct vduse_dev_request (152 bytes). Waits for one; rejects with EBADF once closed. */
  read(): Promise<Uint8Array>;
  /** write(2) of one struct vduse_dev_response (152 bytes). */
  write(response: Uint8Array): Promise<void>;
  /**
   * The descriptor on which kicks of queue `index` show: `fd` itself, as given to VDUSE_VQ_SETUP_KICKFD, on the kernel.
   * The in-process bus answers with another name of the driver's own kick eventfd, so that no thread has to relay.
   */
  kickFd(index: number, fd: number): Promise<number>;
  /** An eventfd whose signal interrupts the driver for queue `index`, or −1 where VDUSE_VQ_INJECT_IRQ is the only way. */
  callFd(index: number): Promise<number>;
  /**
   * The page on which the driver's doorbell stores for queue `index` show, for the device to watch: `fd` is the caller's to
   * close. Undefined where the driver cannot map one. The kernel's VDUSE has no doorbells, so this is the bus's alone.
   */
  doorbell(index: number): Promise<MapSource | undefined>;
  /** Sets DEVICE_NEEDS_RESET in the driver's sight: false where the transport has no way to (the kernel's VDUSE). */
  needsReset(): Promise<boolean>;
  close(): Promise<void>;
}
