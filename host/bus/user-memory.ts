import { systemError } from '../errors.js';
import type { Codec } from '../uapi/codec.js';

/** The part of an ioctl's argument that `bytes` bytes need. EFAULT where the caller gave less, or nothing. */
export function userMemory(argument: Uint8Array | undefined, bytes: number): Uint8Array {
  if (!argument || argument.byteLength < bytes)
    throw systemError('EFAULT', 'ioctl', `the argument has ${argument?.byteLength ?? 0} bytes of ${bytes}`);
  return argument;
}

/** Reads an ioctl's argument. EFAULT where it is too short. */
export function copyFromUser<T>(codec: Codec<T, never>, argument: Uint8Array | undefined): T {
  return codec.decode(userMemory(argument, codec.size));
}

/** Stores an ioctl's answer in its argument. EFAULT where it is too short. */
export function copyToUser<I>(codec: Codec<unknown, I>, argument: Uint8Array | undefined, value: I): void {
  codec.set(userMemory(argument, codec.size), value);
}

/** is_mem_zero() of VDUSE: reserved fields must be. */
export function isZero(fields: readonly number[]): boolean {
  return fields.every((field) => field === 0);
}
