/** Ioctls of a vhost-vdpa file, with their errors named. */
import { isSystemError, RingbellError } from '../errors.js';
import type { Codec } from '../uapi/codec.js';
import { ioctlName } from '../uapi/names.js';
import type { VhostVdpaFile } from './file.js';

/** What a refusal is to whoever asked: ERR_CONTROL_PLANE, with what was asked; anything but a SystemError as it is. */
export function refused(name: string, what: string, error: unknown): unknown {
  if (!isSystemError(error)) return error;
  return new RingbellError('ERR_CONTROL_PLANE', `${name}: ${what}: ${error.code}`, {
    cause: error,
    errno: error.errno,
    syscall: error.syscall,
  });
}

/** One ioctl. Rejects with ERR_CONTROL_PLANE (cause: the SystemError). */
export async function call(file: VhostVdpaFile, request: number, argument?: Uint8Array): Promise<void> {
  try {
    await file.ioctl(request, argument);
  } catch (error) {
    throw refused(file.name, ioctlName(request), error);
  }
}

/** One ioctl that gives a value. Rejects with ERR_CONTROL_PLANE. */
export async function get<T, I>(file: VhostVdpaFile, request: number, codec: Codec<T, I>): Promise<T> {
  const argument = new Uint8Array(codec.size);
  await call(file, request, argument);
  return codec.decode(argument);
}

/** The same for an ioctl that older kernels, or this device, may not have: undefined then. */
export async function probe<T, I>(
  file: VhostVdpaFile,
  request: number,
  codec: Codec<T, I>,
  argument = new Uint8Array(codec.size),
): Promise<T | undefined> {
  try {
    await file.ioctl(request, argument);
  } catch (error) {
    if (
      isSystemError(error, 'ENOTTY') ||
      isSystemError(error, 'EOPNOTSUPP') ||
      isSystemError(error, 'EINVAL')
    )
      return undefined;
    throw refused(file.name, ioctlName(request), error);
  }
  return codec.decode(argument);
}
