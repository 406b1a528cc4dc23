import { IOTLB_ACCESS_READ, VERDICT_PERMISSION } from '../../assembly/layout.js';

/** A region of the IOTLB: what the model keeps is a list, searched from end to end. */
export interface Region {
  readonly iova: bigint;
  /** Bytes. */
  readonly bytes: number;
  /** Linear address of its first byte. */
  readonly linear: number;
  /** IOTLB_ACCESS_* bits. */
  readonly access: number;
}

/** A range of linear memory: address, bytes. */
export type Piece = [linear: number, bytes: number];

/** Why a chain was not taken: a rule that it breaks, or an address at which nothing is mapped yet. */
export type Refusal = { verdict: number } | { miss: bigint };

/** Cuts [iova, iova + bytes) into `pieces` at the ends of regions; a refusal leaves the pieces before it there. */
export function translate(
  regions: readonly Region[],
  iova: bigint,
  bytes: number,
  access: number,
  pieces: Piece[],
): Refusal | undefined {
  for (let left = bytes; left > 0; ) {
    const region = regions.find((r) => r.iova <= iova && iova < r.iova + BigInt(r.bytes));
    if (!region) return { miss: iova };
    if (!(region.access & access)) return { verdict: VERDICT_PERMISSION };
    const offset = Number(iova - region.iova);
    const piece = Math.min(left, region.bytes - offset);
    pieces.push([region.linear + offset, piece]);
    iova += BigInt(piece);
    left -= piece;
  }
  return undefined;
}

/** Copies [iova, iova + bytes) out of linear memory, as a device that may read it. */
export function readAt(
  data: DataView,
  regions: readonly Region[],
  iova: bigint,
  bytes: number,
): DataView | Refusal {
  const pieces: Piece[] = [];
  const refusal = translate(regions, iova, bytes, IOTLB_ACCESS_READ, pieces);
  if (refusal) return refusal;
  const copy = new DataView(new ArrayBuffer(bytes));
  let at = 0;
  for (const [linear, length] of pieces)
    for (let i = 0; i < length; i++) copy.setUint8(at++, data.getUint8(linear + i));
  return copy;
}
