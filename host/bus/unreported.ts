import { isSystemError } from '../errors.js';

/** Waits for an operation of the device whose failure the kernel reports to nobody. */
export async function unreported(operation: Promise<void>): Promise<void> {
  try {
    await operation;
  } catch (error) {
    if (!isSystemError(error)) throw error;
  }
}
