import type { Aperture } from '../aperture/aperture.js';
import type { MmapRequest } from './file.js';

/**
 * An open /dev/vfio/vfio: a container, an I/O address space for the groups that are put into it. Every failure rejects with a
 * SystemError (code, errno, syscall).
 */
export interface VfioContainerFile {
  /** For messages. */
  readonly name: string;
  /** `argument` is the ioctl's structure, read and written in place, or the number that some take. Resolves to the call's result. */
  ioctl(request: number, argument?: Uint8Array | number): Promise<number>;
  /** Closes. The container lasts for as long as a group is in it. */
  close(): Promise<void>;
}

/**
 * An open /dev/vfio/N: a group of devices that share an I/O address space. Where the kernel takes or gives a descriptor there
 * is a method here, since a file of the bus has none.
 */
export interface VfioGroupFile {
  /** For messages. */
  readonly name: string;
  /** As of VfioContainerFile. */
  ioctl(request: number, argument?: Uint8Array): Promise<number>;
  /** VFIO_GROUP_SET_CONTAINER. */
  setContainer(container: VfioContainerFile): Promise<void>;
  /** VFIO_GROUP_GET_DEVICE_FD: opens a device of the group, exclusively. */
  openDevice(name: string): Promise<VfioDeviceFile>;
  /** Closes. The group stays in its container for as long as a device of it is open. */
  close(): Promise<void>;
}

/** An open device of a group: one that has VFIO_DEVICE_FLAGS_VHOST answers to vhost's ioctls (host/uapi/vhost-mdev.ts). */
export interface VfioDeviceFile {
  /** For messages. */
  readonly name: string;
  /** Bytes of a page of the host: what a doorbell is mapped in. */
  readonly pageSize: number;
  /** As of VfioContainerFile. */
  ioctl(request: number, argument?: Uint8Array): Promise<number>;
  /** read(2). */
  read(bytes: Uint8Array): Promise<number>;
  /** write(2). */
  write(bytes: Uint8Array): Promise<void>;
  /** mmap(2) of a doorbell page over `linear` of the aperture, which must be reserved space. */
  mmap(aperture: Aperture, linear: number, request: MmapRequest): Promise<void>;
  /** Closes, which stops the device. */
  close(): Promise<void>;
}
