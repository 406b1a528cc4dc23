/** The areas of a virtqueue in the driver's memory ("Virtqueues"): how large they are, and how they are aligned. */
import {
  PVIRTQ_EVENT_SUPPRESS_ALIGN,
  PVIRTQ_EVENT_SUPPRESS_SIZE,
  VIRTQ_AVAIL_ALIGN,
  VIRTQ_AVAIL_ENTRY_SIZE,
  VIRTQ_AVAIL_RING,
  VIRTQ_DESC_ALIGN,
  VIRTQ_DESC_SIZE,
  VIRTQ_EVENT_SIZE,
  VIRTQ_USED_ALIGN,
  VIRTQ_USED_ENTRY_SIZE,
  VIRTQ_USED_RING,
} from './virtio.js';

/** Bytes, and alignment in bytes. */
export interface VringArea {
  readonly bytes: number;
  readonly align: number;
}

/** Descriptor area, driver area and device area. */
export interface VringAreas {
  readonly desc: VringArea;
  readonly driver: VringArea;
  readonly device: VringArea;
}

/** The areas of a virtqueue of `size` entries. */
export function vringAreas(size: number, packed: boolean): VringAreas {
  const desc = { bytes: size * VIRTQ_DESC_SIZE, align: VIRTQ_DESC_ALIGN };
  if (packed) {
    const suppression = { bytes: PVIRTQ_EVENT_SUPPRESS_SIZE, align: PVIRTQ_EVENT_SUPPRESS_ALIGN };
    return { desc, driver: suppression, device: suppression };
  }
  return {
    desc,
    driver: {
      bytes: VIRTQ_AVAIL_RING + size * VIRTQ_AVAIL_ENTRY_SIZE + VIRTQ_EVENT_SIZE,
      align: VIRTQ_AVAIL_ALIGN,
    },
    device: {
      bytes: VIRTQ_USED_RING + size * VIRTQ_USED_ENTRY_SIZE + VIRTQ_EVENT_SIZE,
      align: VIRTQ_USED_ALIGN,
    },
  };
}
