/** Buckets of a histogram of nanoseconds: each power of two is cut into 2^bits equal ones, below which every value has its own. */

/** Nanoseconds; longer ones fall into the last bucket. */
const MAX_NS = 2 ** 31 - 1;

/** How many buckets there are. */
export function bucketCount(bits: number): number {
  return (32 - bits) << bits;
}

/** The bucket of a value. */
export function bucketOf(nanoseconds: number, bits: number): number {
  const ns = Math.min(MAX_NS, Math.max(0, nanoseconds)) | 0;
  // The highest bit selects the power of two, the bits below it the part.
  const shift = Math.max(0, 32 - bits - Math.clz32(ns) - 1);
  return (shift << bits) + (ns >>> shift);
}

/** The largest value that falls into a bucket. */
export function bucketTop(bucket: number, bits: number): number {
  const buckets = 1 << bits;
  if (bucket < 2 * buckets) return bucket;
  const shift = (bucket >>> bits) - 1;
  const part = bucket - (shift << bits);
  return (part + 1) * 2 ** shift - 1;
}
