// What the other side of a ring writes into it, whichever side that is, in the memory that both share: mostly what the rules
// allow, at the place where it will be looked for, so that the exports have something to do; and anything, anywhere.

import {
  DISK_CAPACITY,
  DQ_LAST_USED,
  DQ_SLOTS,
  DQ_SLOT_DESCRIPTORS,
  IOTLB_COUNT,
  VQ_DESC,
  VQ_DEVICE,
  VQ_DRIVER,
  VQ_LAST_AVAIL,
  VQ_SIZE,
} from '../../../assembly/layout';
import { nextHead } from '../../../assembly/packed/chain';
import { advance, availableOwner, indexOf, OWNER_MASK, usedOwner } from '../../../assembly/packed/position';
import {
  PVIRTQ_DESC_ID,
  PVIRTQ_DESC_LEN,
  RING_EVENT_FLAGS_DESC,
  VIRTQ_AVAIL_IDX,
  VIRTQ_AVAIL_RING,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
  VIRTQ_USED_ENTRY_SIZE,
  VIRTQ_USED_IDX,
  VIRTQ_USED_RING,
} from '../../../assembly/virtio';
import {
  BUFFER_BYTES,
  MODE_PACKED,
  WORLD_BUFFERS,
  WORLD_BUFFERS_IOVA,
  WORLD_DISK,
  WORLD_DOORBELL,
  WORLD_DQ,
  WORLD_HOME,
  WORLD_IOTLB,
  WORLD_MODE,
  WORLD_NEXT,
  WORLD_TABLES,
  WORLD_TABLES_IOVA,
  WORLD_VQ,
} from '../targets/exports-layout';
import { putBuffer, putTable, TABLE_STEP, TABLES } from './descriptors';
import { mix, step } from './random';

/** Offers a chain, as a driver: most have a header, data and a status byte, as block requests do. */
export function offer(world: usize, state: u64): void {
  const packed = (load<u32>(world, WORLD_MODE) & MODE_PACKED) != 0;
  const vq: usize = load<u32>(world, WORLD_VQ);
  const table: usize = load<u32>(vq, VQ_DESC);
  const size = load<u32>(vq, VQ_SIZE);
  const random = mix(state);
  const length = min<u32>((random & 3) != 0 ? 3 : 1 + (<u32>(random >> 2) & 7), size);
  // A packed ring is written where the device is, or behind what was written there before.
  let place = load<u32>(world, WORLD_NEXT);
  if (packed && nextHead(vq) == 0) place = load<u32>(vq, VQ_LAST_AVAIL);
  let index = packed ? indexOf(place) : <u32>(random >> 8) % size;
  const head = index;
  const writes = (random >> 16 & 1) != 0;
  for (let i: u32 = 0; i < length; i++) {
    state = step(state);
    const at = table + index * VIRTQ_DESC_SIZE;
    const more = i + 1 < length;
    let flags: u32 = more ? VIRTQ_DESC_F_NEXT : 0;
    if (length > 1 && i == length - 1) flags |= VIRTQ_DESC_F_WRITE;
    else if (i && writes) flags |= VIRTQ_DESC_F_WRITE;
    flags = element(world, at, i, more, flags, mix(state));
    const next = index + 1 < size ? index + 1 : 0;
    if (packed) {
      const word = (<u32>(mix(state) >> 20) & 0xff) | (flags << 16) | availableOwner(place);
      store<u32>(at, word, PVIRTQ_DESC_ID);
      place = advance(place, 1, size);
    } else {
      store<u16>(at, <u16>flags, 12);
      store<u16>(at, <u16>next, 14);
    }
    index = next;
  }
  if (packed) {
    store<u32>(world, place, WORLD_NEXT);
    return;
  }
  const driver: usize = load<u32>(vq, VQ_DRIVER);
  const avail = <u32>load<u16>(driver, VIRTQ_AVAIL_IDX);
  store<u16>(driver + VIRTQ_AVAIL_RING + ((avail & (size - 1)) << 1), <u16>head);
  store<u16>(driver, <u16>(avail + 1), VIRTQ_AVAIL_IDX);
}

/** Writes element `index` of a chain at `at`, but for its last four bytes: its flags. */
function element(world: usize, at: usize, index: u32, more: bool, flags: u32, random: u64): u32 {
  const kind = <u32>random & 63;
  if (kind == 0) {
    const iotlb: usize = load<u32>(world, WORLD_IOTLB);
    putBuffer(at, iotlb, load<u32>(iotlb, IOTLB_COUNT), load<u32>(world, WORLD_HOME), random >> 8, mix(random));
    return flags;
  }
  const vq: usize = load<u32>(world, WORLD_VQ);
  if (kind < 4) return putTable(at, load<u64>(world, WORLD_TABLES_IOVA), load<u32>(vq, VQ_SIZE), random >> 8) | (kind == 1 ? flags : 0);
  if (kind == 4) flags = <u32>(random >> 40) & 7;
  const offset = (random >> 8) & (BUFFER_BYTES - 1) & ~15;
  store<u64>(at, load<u64>(world, WORLD_BUFFERS_IOVA) + offset);
  let bytes: u32 = 16;
  if (index && more) bytes = 512 * (1 + (<u32>(random >> 32) & 3));
  else if (index) bytes = 1;
  if (kind < 8) bytes = <u32>(random >> 34) & 4095;
  store<u32>(at, bytes, 8);
  return flags;
}

/** Writes an indirect table, mostly the three descriptors of a request. */
export function scribbleTable(world: usize, state: u64): void {
  const random = mix(state);
  const table: usize = load<u32>(world, WORLD_TABLES) + (<u32>random & (TABLES - 1)) * TABLE_STEP;
  for (let i: u32 = 0; i < 5; i++) {
    state = step(state);
    const at = table + i * VIRTQ_DESC_SIZE;
    const flags: u32 = (i < 2 ? VIRTQ_DESC_F_NEXT : 0) | (i != 0 ? VIRTQ_DESC_F_WRITE : 0);
    store<u16>(at, <u16>element(world, at, i, i < 2, flags, mix(state)), 12);
    store<u16>(at, <u16>(i + 1), 14);
  }
}

/** Writes the header of a request into the buffers. */
export function scribbleHeader(world: usize, state: u64): void {
  const random = mix(state);
  const at: usize = load<u32>(world, WORLD_BUFFERS) + (<u32>random & (BUFFER_BYTES - 1) & ~15);
  // READ, WRITE, FLUSH, GET_ID, DISCARD, WRITE_ZEROES, or none of them.
  const kind = <u32>(random >> 16) & 15;
  store<u32>(at, kind & 1 ? kind : kind >> 3);
  if (kind == 2) store<u32>(at, 4 + (<u32>(random >> 20) & 15));
  const capacity = load<u64>(<usize>load<u32>(world, WORLD_DISK), DISK_CAPACITY);
  store<u64>(at, (random >> 24 & 15) != 0 ? (random >> 32) % capacity : random, 8);
}

/** Uses a buffer, as a device. */
export function use(world: usize, state: u64): void {
  const random = mix(state);
  const dq: usize = load<u32>(world, WORLD_DQ);
  const vq: usize = load<u32>(world, WORLD_VQ);
  const size = load<u32>(vq, VQ_SIZE);
  const slot = <u32>(random >> 8) % (load<u32>(dq, DQ_SLOTS) + ((random & 15) == 0 ? 3 : 0));
  const bytes: u32 = (random >> 4 & 1) != 0 ? 1 : (random >> 5 & 15) != 0 ? <u32>(random >> 32) & 1023 : <u32>(random >> 32);
  if (load<u32>(world, WORLD_MODE) & MODE_PACKED) {
    const place = load<u32>(dq, DQ_LAST_USED);
    const at: usize = load<u32>(vq, VQ_DESC) + indexOf(place) * VIRTQ_DESC_SIZE;
    store<u32>(at, bytes, PVIRTQ_DESC_LEN);
    store<u32>(at, slot | usedOwner(place) | (VIRTQ_DESC_F_WRITE << 16), PVIRTQ_DESC_ID);
    return;
  }
  const device: usize = load<u32>(vq, VQ_DEVICE);
  const used = <u32>load<u16>(device, VIRTQ_USED_IDX);
  const at = device + VIRTQ_USED_RING + (used & (size - 1)) * VIRTQ_USED_ENTRY_SIZE;
  store<u32>(at, slot * ((random & 31) == 1 ? 1 : load<u32>(dq, DQ_SLOT_DESCRIPTORS)));
  store<u32>(at, bytes, 4);
  store<u16>(device, <u16>(used + 1), VIRTQ_USED_IDX);
}

/** Writes what nobody would: an index, a wish, an owner, any word of the rings, the doorbell. */
export function scribble(world: usize, state: u64): void {
  const random = mix(state);
  const vq: usize = load<u32>(world, WORLD_VQ);
  const size = load<u32>(vq, VQ_SIZE);
  const table: usize = load<u32>(vq, VQ_DESC);
  const driver: usize = load<u32>(vq, VQ_DRIVER);
  const device: usize = load<u32>(vq, VQ_DEVICE);
  const value = <u32>(random >> 32);
  switch (<u32>random & 15) {
    case 0:
      store<u16>(driver, <u16>((random >> 8 & 3) != 0 ? load<u16>(driver, VIRTQ_AVAIL_IDX) + (value & 7) : value), VIRTQ_AVAIL_IDX);
      break;
    case 1:
      store<u16>(device, <u16>((random >> 8 & 3) != 0 ? load<u16>(device, VIRTQ_USED_IDX) + (value & 3) : value), VIRTQ_USED_IDX);
      break;
    case 2:
    case 3:
      store<u16>(driver, <u16>(value & 3));
      store<u16>(device, <u16>(value >> 2 & 3));
      break;
    case 4:
      store<u32>(driver, (value & 0x800f) | (RING_EVENT_FLAGS_DESC << 16));
      store<u32>(device, (value >> 16 & 0x800f) | (RING_EVENT_FLAGS_DESC << 16));
      break;
    case 5:
      store<u16>(driver + VIRTQ_AVAIL_RING + (size << 1), <u16>value);
      store<u16>(device + VIRTQ_USED_RING + size * VIRTQ_USED_ENTRY_SIZE, <u16>(value >> 16));
      break;
    case 6: {
      const at = table + (<u32>(random >> 8) % size) * VIRTQ_DESC_SIZE;
      store<u32>(at, load<u32>(at, PVIRTQ_DESC_ID) ^ (value & (OWNER_MASK | (VIRTQ_DESC_F_NEXT << 16))), PVIRTQ_DESC_ID);
      break;
    }
    case 7:
      store<u16>(<usize>load<u32>(world, WORLD_DOORBELL), <u16>value);
      break;
    case 8:
    case 9:
      store<u32>(table + ((<u32>(random >> 8) % (size << 2)) << 2), (random & 16) != 0 ? value : value & 31);
      break;
    case 10:
      store<u32>(driver + ((<u32>(random >> 8) % (size + 2)) << 1 & ~3), value);
      break;
    case 11:
      store<u32>(device + ((<u32>(random >> 8) % (size << 1)) << 2), (random & 16) != 0 ? value : value & 31);
      break;
    case 12:
      scribbleTable(world, state);
      break;
    default:
      scribbleHeader(world, state);
  }
}
