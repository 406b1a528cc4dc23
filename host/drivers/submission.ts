import {
  SUBMISSION_BYTES,
  SUBMISSION_LINEAR,
  SUBMISSION_RANGE_FLAGS,
  SUBMISSION_SECTOR,
  SUBMISSION_SIZE,
  SUBMISSION_TAG,
  SUBMISSION_TYPE,
} from '../../assembly/layout.js';

/**
 * Writes one entry of a submission table at `entry`, a linear address of the private part. `count` is bytes of data, or
 * sectors of a DISCARD or WRITE_ZEROES; `sector` any integer below 2^53. Numbers only: the batch path allocates nothing.
 */
export function writeSubmission(
  i32: Int32Array,
  entry: number,
  type: number,
  tag: number,
  sector: number,
  linear: number,
  count: number,
  rangeFlags: number,
): void {
  const word = entry >>> 2;
  i32[word + SUBMISSION_TYPE / 4] = type;
  i32[word + SUBMISSION_TAG / 4] = tag;
  i32[word + SUBMISSION_SECTOR / 4] = sector | 0;
  i32[word + SUBMISSION_SECTOR / 4 + 1] = sector / 2 ** 32;
  i32[word + SUBMISSION_LINEAR / 4] = linear;
  i32[word + SUBMISSION_BYTES / 4] = count;
  i32[word + SUBMISSION_RANGE_FLAGS / 4] = rangeFlags;
}

/** Moves the entries behind the first `taken` of `count` at `table` to its front: how many there are. */
export function keepSubmissions(i32: Int32Array, table: number, taken: number, count: number): number {
  if (taken < count) {
    const first = table / 4;
    const words = SUBMISSION_SIZE / 4;
    i32.copyWithin(first, first + taken * words, first + count * words);
  }
  return count - taken;
}
