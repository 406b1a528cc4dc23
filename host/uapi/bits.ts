/** Masks of numbered bits, 64 of them: features of a device, of virtqueues, of vhost and VDUSE. */

/** The mask with these bits set. */
export function mask(...bits: number[]): bigint {
  return bits.reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n);
}

/** Whether bit `bit` is set in `bits`. */
export function hasBit(bits: bigint, bit: number): boolean {
  return ((bits >> BigInt(bit)) & 1n) === 1n;
}
