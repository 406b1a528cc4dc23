// Descriptors as hostile drivers write them, mostly sound, so that deep rules are reached.

import { IOTLB_ENTRY_BYTES, IOTLB_ENTRY_IOVA } from '../../../assembly/layout';
import { VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_WRITE, VIRTQ_DESC_SIZE } from '../../../assembly/virtio';
import { entryOf } from './regions';

/** Indirect tables, each of at most TABLE_ENTRIES descriptors. */
export const TABLES: u32 = 4;
const TABLE_ENTRIES: u32 = 20;
/** Bytes between the tables: they are unaligned half of the time. */
export const TABLE_STEP: u32 = TABLE_ENTRIES * VIRTQ_DESC_SIZE + 16;
/** Bytes that an unaligned table lies further. */
export const TABLE_SHIFT: u32 = 4;

/** Writes address and length of a buffer at `at`, in the region of entry `usual` for the most part. */
export function putBuffer(at: usize, iotlb: usize, regions: u32, usual: u32, random: u64, more: u64): void {
  const entry = entryOf(iotlb, (random & 7) != 0 ? usual : <u32>(random >> 3) % regions);
  const start = load<u64>(entry, IOTLB_ENTRY_IOVA);
  const length = load<u64>(entry, IOTLB_ENTRY_BYTES);
  let iova = start + (more & 0xfff);
  let bytes = 1 + (<u32>(more >> 12) & 63);
  switch (<u32>(random >> 12) & 31) {
    case 0: iova = start + length - (more & 31); break;
    case 1: iova = start + (<u64>1 << 63) - (more & 31); break;
    case 2: iova = more; break;
    case 3: bytes = <u32>(more >> 32); break;
    case 4: bytes = <u32>1 << (<u32>(more >> 32) & 31); break;
    case 5: bytes = (more >> 40 & 1) != 0 ? 0 : 0x7fff_ffff + (<u32>(more >> 32) & 3); break;
    default: break;
  }
  store<u64>(at, iova);
  store<u32>(at, bytes, 8);
}

/**
 * Writes address and length of one of the tables at `tablesIova`, of at most `size` descriptors: the flags of a descriptor
 * that refers to it.
 */
export function putTable(at: usize, tablesIova: u64, size: u32, more: u64): u32 {
  const count = min<u32>(1 + (<u32>(more >> 2) & 3), size);
  let bytes = count * VIRTQ_DESC_SIZE;
  if ((more >> 4 & 15) == 0) bytes = <u32>(more >> 8) & 511;
  store<u64>(at, tablesIova + <u64>((<u32>more & 3) * TABLE_STEP) + <u64>(<u32>(more >> 17) & TABLE_SHIFT));
  store<u32>(at, bytes, 8);
  return VIRTQ_DESC_F_INDIRECT | ((more >> 20 & 15) == 0 ? <u32>(more >> 24) & 3 : 0);
}

/** NEXT so often that chains of one, two, three and more descriptors come up, WRITE rather at the end of a chain. */
// @ts-ignore: decorator
@inline
export function linkOf(random: u64): u32 {
  let link = <u32>random & 1;
  if ((random >> 1 & 3) == 0 || (link == 0 && (random >> 3 & 1) != 0)) link |= VIRTQ_DESC_F_WRITE;
  return link;
}
