// Calls of a host that have nothing to do with one queue: regions, dirty pages, doorbells, bounce buffers, copies.

import {
  DIRTY_RANGES_CAPACITY,
  IOTLB_CAPACITY,
  IOTLB_COUNT,
  IOTLB_DIRTY,
  IOTLB_ENTRY_BYTES,
  IOTLB_ENTRY_DENY,
  IOTLB_ENTRY_IOVA,
  IOTLB_ENTRY_LINEAR,
  IOTLB_LOG_BASE,
} from '../../../assembly/layout';
import {
  BOUNCE_BYTES,
  CALL_copy,
  CALL_dirtyFetch,
  CALL_dirtyMark,
  CALL_doorbellWatch,
  CALL_iotlbInit,
  CALL_iotlbMap,
  CALL_iotlbTranslate,
  CALL_iotlbUnmap,
  CALL_mapPage,
  CALL_syncSingleForCpu,
  CALL_syncSingleForDevice,
  CALL_unmapPage,
  SCRATCH_BYTES,
  WORLD_BOUNCE,
  WORLD_BOUNCE_BYTES,
  WORLD_BUFFERS,
  WORLD_DIRTY_BITMAP,
  WORLD_DIRTY_LOG,
  WORLD_DOMAIN,
  WORLD_GONE_BYTES,
  WORLD_GONE_IOVA,
  WORLD_GONE_LINEAR,
  WORLD_IOTLB,
  WORLD_QUEUES,
  WORLD_RANGES,
  WORLD_SCRATCH,
} from '../targets/exports-layout';
import { call, gave } from './calls';
import * as engine from './engine';
import { mix } from './random';
import { entryOf } from './regions';

/** The fewest entries that dirtyFetch takes. */
const FEWEST_RANGES: u32 = 16;

export function aside(world: usize, random: u64, state: u64): bool {
  const iotlb: usize = load<u32>(world, WORLD_IOTLB);
  const more = mix(state);
  switch (<u32>random & 15) {
    case 0:
    case 1:
      return replaceRegion(world, iotlb, random >> 4, more);
    case 2: {
      // A capacity of its own, all regions as they were.
      if (random >> 4 & 15) return true;
      const count = load<u32>(iotlb, IOTLB_COUNT);
      call(world, CALL_iotlbInit);
      engine.iotlbInit(iotlb, load<u32>(iotlb, IOTLB_CAPACITY));
      gave(world, CALL_iotlbInit, load<u32>(iotlb, IOTLB_COUNT) == 0);
      for (let i: u32 = 0; i < count; i++) {
        const entry = entryOf(iotlb, i);
        const access = 3 & ~load<u32>(entry, IOTLB_ENTRY_DENY);
        map(world, iotlb, load<u64>(entry, IOTLB_ENTRY_IOVA), load<u64>(entry, IOTLB_ENTRY_BYTES), load<u32>(entry, IOTLB_ENTRY_LINEAR), access);
      }
      return load<u32>(iotlb, IOTLB_COUNT) == count;
    }
    case 3:
    case 4: {
      const entry = entryOf(iotlb, <u32>(random >> 4) % load<u32>(iotlb, IOTLB_COUNT));
      const iova = load<u64>(entry, IOTLB_ENTRY_IOVA) + ((more & 0x1fff) - 256);
      call(world, CALL_iotlbTranslate);
      const linear = engine.iotlbTranslate(iotlb, iova, 1 + (<u32>(more >> 16) & 0xfff), 1 + (<u32>(more >> 32) & 1));
      gave(world, CALL_iotlbTranslate, linear != 0);
      return true;
    }
    case 5:
    case 6:
    case 7: {
      if ((random >> 4 & 7) == 0) {
        const on = (random >> 7 & 1) != 0;
        store<u32>(iotlb, on ? load<u32>(world, WORLD_DIRTY_BITMAP) : 0, IOTLB_DIRTY);
        store<u32>(iotlb, (random >> 8 & 1) != 0 ? load<u32>(world, WORLD_DIRTY_LOG) : 0, IOTLB_LOG_BASE);
      }
      if (load<u32>(iotlb, IOTLB_DIRTY) == 0) return true;
      const capacity = FEWEST_RANGES + <u32>(random >> 9) % (DIRTY_RANGES_CAPACITY - FEWEST_RANGES + 1);
      call(world, CALL_dirtyFetch);
      const ranges = engine.dirtyFetch(iotlb, (random >> 20 & 3) != 0 ? 0 : more, load<u32>(world, WORLD_RANGES), capacity);
      gave(world, CALL_dirtyFetch, ranges != 0);
      return ranges <= capacity;
    }
    case 8: {
      call(world, CALL_doorbellWatch);
      const rung = engine.doorbellWatch(load<u32>(world, WORLD_QUEUES), 1, <u32>(random >> 4) & 3);
      gave(world, CALL_doorbellWatch, rung != 0);
      return rung <= 1;
    }
    case 9: {
      const scratch: usize = load<u32>(world, WORLD_SCRATCH);
      call(world, CALL_copy);
      engine.copy(scratch, scratch + SCRATCH_BYTES / 2 + (<u32>more & 15), <usize>(more >> 8) % (SCRATCH_BYTES / 2 - 16));
      gave(world, CALL_copy, true);
      return true;
    }
    case 10: {
      // As a model that has written to what a chain named: somewhere in a region, as far as that goes.
      const entry = entryOf(iotlb, <u32>(random >> 4) % load<u32>(iotlb, IOTLB_COUNT));
      const bytes = load<u64>(entry, IOTLB_ENTRY_BYTES);
      const offset = more % bytes;
      call(world, CALL_dirtyMark);
      engine.dirtyMark(iotlb, load<u32>(entry, IOTLB_ENTRY_LINEAR) + <u32>offset, <u32>min(bytes - offset, <u64>BOUNCE_BYTES));
      gave(world, CALL_dirtyMark, load<u32>(iotlb, IOTLB_DIRTY) != 0);
      return true;
    }
    default:
      return bounce(world, random >> 4, more);
  }
}

function map(world: usize, iotlb: usize, iova: u64, bytes: u64, linear: u32, access: u32): void {
  call(world, CALL_iotlbMap);
  gave(world, CALL_iotlbMap, engine.iotlbMap(iotlb, iova, bytes, linear, access) == 0);
}

/** Takes a region away, or brings back the one that is gone, mostly with all permissions; both at once, for the most part. */
function replaceRegion(world: usize, iotlb: usize, random: u64, more: u64): bool {
  let bytes = load<u64>(world, WORLD_GONE_BYTES);
  let removed: u32 = 1;
  if (bytes == 0) {
    const entry = entryOf(iotlb, <u32>random % load<u32>(iotlb, IOTLB_COUNT));
    const iova = load<u64>(entry, IOTLB_ENTRY_IOVA);
    bytes = load<u64>(entry, IOTLB_ENTRY_BYTES);
    store<u64>(world, iova, WORLD_GONE_IOVA);
    store<u64>(world, bytes, WORLD_GONE_BYTES);
    store<u32>(world, load<u32>(entry, IOTLB_ENTRY_LINEAR), WORLD_GONE_LINEAR);
    call(world, CALL_iotlbUnmap);
    removed = engine.iotlbUnmap(iotlb, iova, iova + bytes - 1);
    gave(world, CALL_iotlbUnmap, removed != 0);
    if ((more >> 8 & 3) == 0) return removed == 1;
  }
  const access: u32 = (more & 3) != 0 ? 3 : 1 + (<u32>(more >> 2) & 1);
  map(world, iotlb, load<u64>(world, WORLD_GONE_IOVA), bytes, load<u32>(world, WORLD_GONE_LINEAR), access);
  store<u64>(world, 0, WORLD_GONE_BYTES);
  return removed == 1;
}

/** Maps own memory for the device, copies parts of it to and fro, ends the mapping. */
function bounce(world: usize, random: u64, more: u64): bool {
  const domain: usize = load<u32>(world, WORLD_DOMAIN);
  const at = load<u32>(world, WORLD_BOUNCE);
  if (at == 0) {
    const bytes = 1 + <u32>more % BOUNCE_BYTES;
    call(world, CALL_mapPage);
    const mapped = engine.mapPage(domain, load<u32>(world, WORLD_BUFFERS), bytes, <u32>random % 3);
    gave(world, CALL_mapPage, mapped != 0);
    store<u32>(world, mapped, WORLD_BOUNCE);
    store<u32>(world, bytes, WORLD_BOUNCE_BYTES);
    return true;
  }
  const whole = load<u32>(world, WORLD_BOUNCE_BYTES);
  const offset = <u32>more % whole;
  const bytes = <u32>(more >> 32) % (whole - offset + 1);
  switch (<u32>random & 3) {
    case 0:
      call(world, CALL_syncSingleForCpu);
      engine.syncSingleForCpu(domain, at, offset, bytes);
      gave(world, CALL_syncSingleForCpu, true);
      return true;
    case 1:
      call(world, CALL_syncSingleForDevice);
      engine.syncSingleForDevice(domain, at, offset, bytes);
      gave(world, CALL_syncSingleForDevice, true);
      return true;
    default:
      call(world, CALL_unmapPage);
      engine.unmapPage(domain, at);
      gave(world, CALL_unmapPage, true);
      store<u32>(world, 0, WORLD_BOUNCE);
      return true;
  }
}
