import { getSystemErrorName } from 'node:util';
import type { Flight } from './flight.js';

/** Every code that this package gives to its errors, with what it means. docs/errors.md lists cause and remedy. */
export const ERROR_CODES = {
  ERR_ADDON_MISSING: 'the native addon is neither prebuilt for this platform nor built here',
  ERR_ARGUMENT: 'an argument or option is not valid',
  ERR_CLOSED: 'the object has been closed',
  ERR_APERTURE_FULL: 'the aperture has no room left for a window or a structure',
  ERR_NO_DEVICE: 'no such device',
  ERR_DEVICE_BUSY: 'the device is already open',
  ERR_TAKE_OVER: 'a device of that name exists and cannot be taken over',
  ERR_NOT_SUPPORTED: 'this device, transport or machine cannot do it',
  ERR_FEATURES: 'the device refused the features, or lacks one that is needed',
  ERR_CONTROL_PLANE: 'the control plane failed: an ioctl or a message was refused',
  ERR_MEMORY_IN_USE: 'memory that stays would be unmapped for a moment under a running device',
  ERR_MEMORY_TABLE: 'a change of mappings was refused, and so was what had been mapped before',
  ERR_DEVICE_BROKEN: 'the device is broken and needs a reset',
  ERR_IO: 'the device reported an I/O error (VIRTIO_BLK_S_IOERR)',
  ERR_UNSUPPORTED_REQUEST: 'the device does not know the request (VIRTIO_BLK_S_UNSUPP)',
  ERR_READ_ONLY: 'the disk is read-only',
  ERR_OUT_OF_RANGE: 'the request reaches beyond the end of the disk',
  ERR_ALIGNMENT: 'offset or length is not a multiple of the sector size',
  ERR_RING_FULL: 'the ring has no free slot',
  ERR_MODEL: 'a device model threw, or rejected',
  ERR_IN_FLIGHT: 'requests are in flight',
  ERR_STATE: 'a saved state is damaged, or not of this device',
  ERR_CHAIN_ENDED: 'the chain has been given back, or taken from the model, already',
  ERR_MODULE: 'what is given as the module of a model is no WebAssembly module, or has what it must not have',
  ERR_MODULE_IMPORT: 'the module of a model imports what there is not',
  ERR_MODULE_EXPORT: 'the module of a model does not export what it has to',
  ERR_MODULE_ABI: 'the module of a model was compiled against another version of the library',
  ERR_NBD_CONNECT: 'there is no connection to the NBD server',
  ERR_NBD_TLS: 'TLS with the NBD server failed, or one side lacks it',
  ERR_NBD_REFUSED: 'the NBD server refused the export',
  ERR_NBD_PROTOCOL: 'the NBD server broke the protocol',
  ERR_NBD_CHANGED: 'the export of the NBD server is not what it was',
  ERR_NBD_REPLY: 'the NBD server answered a request with an error',
  ERR_NBD_TIMEOUT: 'the NBD server did not answer in time',
  ERR_OVERLAY_FILE: 'the file is not an overlay, or is damaged',
  ERR_OVERLAY_BASE: 'the base is not the one that the overlay was made over',
  ERR_TAP: 'the tap interface cannot be opened, or has gone',
  ERR_FLIGHT_FILE: 'the file is no flight recording, or is damaged',
  ERR_RING_AVAIL_INDEX: 'more was made available than the queue has room for',
  ERR_RING_HEAD: 'a head lies outside the descriptor table',
  ERR_RING_NEXT: 'a next lies outside its descriptor table',
  ERR_RING_CHAIN_TOO_LONG: 'a chain has more descriptors than the queue, or loops',
  ERR_RING_ZERO_LENGTH: 'a descriptor has no bytes',
  ERR_RING_TOTAL_LENGTH: 'the lengths of a chain add up to 4 GiB or more',
  ERR_RING_UNMAPPED: 'a descriptor names an IOVA that nothing maps',
  ERR_RING_PERMISSION: 'an access that the IOTLB does not permit',
  ERR_RING_ADDRESS_OVERFLOW: 'address plus length of a descriptor passes 2^64',
  ERR_RING_ORDER: 'a device-readable descriptor follows a device-writable one',
  ERR_RING_INDIRECT_NOT_NEGOTIATED: 'an indirect descriptor without VIRTIO_RING_F_INDIRECT_DESC',
  ERR_RING_INDIRECT_NEXT: 'an indirect descriptor that also has NEXT, or stands in a packed list',
  ERR_RING_INDIRECT_NESTED: 'an indirect descriptor inside an indirect table',
  ERR_RING_INDIRECT_LENGTH: 'an indirect table of a bad length',
  ERR_RING_TOO_MANY_SEGMENTS: 'a chain crosses more regions than can be held',
  ERR_RING_HEAD_IN_FLIGHT: 'a head was made available while still in flight',
  ERR_RING_REQUEST: 'a chain is no request of this device type',
  ERR_RING_USED_INDEX: 'used.idx is ahead of what is in flight',
  ERR_RING_USED_ID: 'a used id is no head in flight',
  ERR_RING_USED_LENGTH: 'a used length is beyond the writable bytes of its chain',
  ERR_TRAP: 'the datapath touched memory that is not accessible',
  ERR_MEMORY_LOST: 'a file was truncated under its mapping',
  ERR_THREAD_LOST: 'a thread of the device ended unexpectedly',
  ERR_IN_FLIGHT_LOG: 'the in-flight log and the ring contradict each other',
} as const;

/** A code of a RingbellError. */
export type ErrorCode = keyof typeof ERROR_CODES;

/** What VERDICT_n of assembly/layout.ts is called here, by number. */
export const VERDICT_CODES: readonly (ErrorCode | undefined)[] = [
  undefined,
  'ERR_RING_AVAIL_INDEX',
  'ERR_RING_HEAD',
  'ERR_RING_NEXT',
  'ERR_RING_CHAIN_TOO_LONG',
  'ERR_RING_ZERO_LENGTH',
  'ERR_RING_TOTAL_LENGTH',
  'ERR_RING_UNMAPPED',
  'ERR_RING_PERMISSION',
  'ERR_RING_ADDRESS_OVERFLOW',
  'ERR_RING_ORDER',
  'ERR_RING_INDIRECT_NOT_NEGOTIATED',
  'ERR_RING_INDIRECT_NEXT',
  'ERR_RING_INDIRECT_NESTED',
  'ERR_RING_INDIRECT_LENGTH',
  'ERR_RING_TOO_MANY_SEGMENTS',
  'ERR_RING_HEAD_IN_FLIGHT',
  'ERR_RING_REQUEST',
  'ERR_RING_USED_INDEX',
  'ERR_RING_USED_ID',
  'ERR_RING_USED_LENGTH',
  'ERR_TRAP',
  'ERR_MEMORY_LOST',
  'ERR_THREAD_LOST',
  'ERR_IN_FLIGHT_LOG',
];

/** What may lie behind a RingbellError. */
export interface RingbellErrorOptions {
  /** The error behind this one. */
  cause?: unknown;
  /** Of the kernel's answer, where there was one: negative number and system call, as on Node's own errors. */
  errno?: number;
  syscall?: string;
}

/** An error of this package. `code` is stable and documented; the message is for people and may change. */
export class RingbellError extends Error {
  override readonly name = 'RingbellError';
  /** Stable; a key of ERROR_CODES. */
  readonly code: ErrorCode;
  // Declared only: an error without them has no such properties.
  declare readonly errno?: number;
  declare readonly syscall?: string;
  /** Of what broke a device: what its queues had done last, where that was recorded. Not enumerable. */
  declare readonly flight?: Flight;

  constructor(code: ErrorCode, message: string = ERROR_CODES[code], options: RingbellErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    if (options.errno !== undefined) this.errno = options.errno;
    if (options.syscall !== undefined) this.syscall = options.syscall;
  }
}

/** An error in the shape of Node's system errors: what the kernel, or the in-process bus in its place, answers. */
export interface SystemError extends Error {
  /** 'EINVAL'; 'ENOTSUPP' for the kernel-internal 524. */
  code: string;
  /** Negative. */
  errno: number;
  /** 'ioctl', 'open'. */
  syscall: string;
}

/** Errno numbers that the vDPA interfaces answer with (Linux generic numbering), by name. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOTTY: 25,
  ENOSPC: 28,
  ERANGE: 34,
  EOPNOTSUPP: 95,
  ENOBUFS: 105,
  ETIMEDOUT: 110,
  /** Kernel-internal ENOTSUPP: leaks to user space from the doorbell mmap, no libc name. */
  ENOTSUPP: 524,
} as const;

export type ErrnoName = keyof typeof ERRNO;

/** Makes a system error as the kernel would: `systemError('EBUSY', 'ioctl')`. */
export function systemError(code: ErrnoName, syscall: string, detail?: string): SystemError {
  const message = `${code}: ${detail ?? 'refused'}, ${syscall}`;
  return Object.assign(new Error(message), { code, errno: -ERRNO[code], syscall });
}

/** Makes a system error of a number that the kernel itself gave: `kernelError(-17, 'netlink', 'device exists')`. */
export function kernelError(errno: number, syscall: string, detail: string): SystemError {
  const code =
    (Object.keys(ERRNO) as ErrnoName[]).find((name) => ERRNO[name] === -errno) ?? getSystemErrorName(errno);
  return Object.assign(new Error(`${code}: ${detail}, ${syscall}`), { code, errno, syscall });
}

/** Whether `error` is a system error, optionally with that code. */
export function isSystemError(error: unknown, code?: string): error is SystemError {
  return (
    error instanceof Error &&
    // A RingbellError has the same fields, filled or not.
    !(error instanceof RingbellError) &&
    'syscall' in error &&
    'errno' in error &&
    (code === undefined || (error as SystemError).code === code)
  );
}

/** What a call rejects with when its `signal` aborts: in the shape of Node's own, with the signal's reason as `cause`. */
export function abortError(signal: AbortSignal): Error {
  return Object.assign(new Error('The operation was aborted', { cause: signal.reason }), {
    name: 'AbortError',
    code: 'ABORT_ERR',
  });
}
