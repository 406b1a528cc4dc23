/** What the writer of a disk and whoever looks at it afterwards have agreed on. */

/** Blocks are smaller than clusters: most writes copy from the base. */
export const BLOCK_BYTES = 2560;
export const BLOCKS = 2048;
export const WORKERS = 16;

/** Bytes of a block of the base: number −1; of zeroes: number 0; of a write: its number. */
export function pattern(block: number, number: number): Uint8Array {
  const bytes = new Uint8Array(BLOCK_BYTES);
  if (number === 0) return bytes;
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < BLOCK_BYTES; at += 8) {
    view.setUint32(at, block, true);
    view.setInt32(at + 4, number, true);
  }
  return bytes;
}
