import { type ErrorCode, RingbellError } from '../errors.js';

/** What an event says of an error: one that is not ours is the transport's. */
export function failureOf(error: unknown): { code: ErrorCode; message: string } {
  return {
    code: error instanceof RingbellError ? error.code : 'ERR_CONTROL_PLANE',
    message: error instanceof Error ? error.message : String(error),
  };
}
