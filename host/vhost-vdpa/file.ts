import type { Aperture } from '../aperture/aperture.js';
import type { Protection } from '../native/addon.js';

/** What the caller of mmap(2) asks for. */
export interface MmapRequest {
  /** Bytes. */
  length: number;
  protection: Protection;
  shared: boolean;
  /** Bytes: queue index × page size. */
  offset: number;
}

/**
 * The driver's seam: an open /dev/vhost-vdpa-N. Implemented by the kernel's character device and by the in-process bus,
 * with the same ioctl numbers, byte layouts and errnos (host/uapi/vhost.ts). Asynchronous, because an ioctl may wait for
 * the device's answer. Every failure rejects with a SystemError (code, errno, syscall).
 */
export interface VhostVdpaFile {
  /** For messages: a path, or the name on the bus. */
  readonly name: string;
  /** Bytes of a page of the host: what a doorbell is mapped in. */
  readonly pageSize: number;
  /** `argument` is the ioctl's structure, read and written in place. Resolves to the call's result. */
  ioctl(request: number, argument?: Uint8Array): Promise<number>;
  /** write(2) of one struct vhost_msg or vhost_msg_v2 (72 bytes). */
  write(message: Uint8Array): Promise<void>;
  /** mmap(2) of a doorbell page over `linear` of the aperture, which must be reserved space. */
  mmap(aperture: Aperture, linear: number, request: MmapRequest): Promise<void>;
  /** Closes, which resets the device. */
  close(): Promise<void>;
}
