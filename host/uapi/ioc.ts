/**
 * The _IOC encoding of ioctl numbers, in the layout of asm-generic/ioctl.h (x86, arm64, riscv): number in bits 0–7, type
 * in 8–15, size of the argument in 16–29, direction in 30–31.
 */

/** No argument is transferred. */
export const IOC_NONE = 0;
/** User space writes, the kernel reads. */
export const IOC_WRITE = 1;
/** User space reads, the kernel writes. */
export const IOC_READ = 2;

/** What an ioctl's argument is described by: its size in bytes. */
interface Argument {
  readonly size: number;
}

function ioc(direction: number, type: number, number: number, size: number): number {
  return ((direction << 30) | (size << 16) | (type << 8) | number) >>> 0;
}

/** The number of an ioctl with no argument. */
export function io(type: number, number: number): number {
  return ioc(IOC_NONE, type, number, 0);
}

/** The number of an ioctl whose argument the kernel writes. */
export function ior(type: number, number: number, argument: Argument): number {
  return ioc(IOC_READ, type, number, argument.size);
}

/** The number of an ioctl whose argument the kernel reads. */
export function iow(type: number, number: number, argument: Argument): number {
  return ioc(IOC_WRITE, type, number, argument.size);
}

/** The number of an ioctl whose argument the kernel reads, then writes. */
export function iowr(type: number, number: number, argument: Argument): number {
  return ioc(IOC_READ | IOC_WRITE, type, number, argument.size);
}

/** Direction of an ioctl number: IOC_NONE, IOC_READ, IOC_WRITE or the last two together. */
export function iocDirection(request: number): number {
  return request >>> 30;
}

/** Type of an ioctl number: VHOST_VIRTIO, VDUSE_BASE. */
export function iocType(request: number): number {
  return (request >>> 8) & 0xff;
}

/** Bytes of the argument that an ioctl number encodes, without a flexible array member. */
export function iocSize(request: number): number {
  return (request >>> 16) & 0x3fff;
}
