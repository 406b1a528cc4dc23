import { systemError } from '../errors.js';
import { type Codec, u32 } from '../uapi/codec.js';

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

/** Judges the `argsz` that a structure of VFIO's starts with: EFAULT where the argument is too short, EINVAL where it says so. */
export function checkArgsz(codec: Codec<unknown, never>, argument: Uint8Array | undefined): void {
  const argsz = u32.decode(userMemory(argument, codec.size));
  if (argsz < codec.size) throw systemError('EINVAL', 'ioctl', `argsz is ${argsz}, not ${codec.size}`);
}

/** is_mem_zero() of VDUSE: reserved fields must be. */
export function isZero(fields: readonly number[]): boolean {
  return fields.every((field) => field === 0);
}
