#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "constants.h"

namespace ringbell::bench {

/** One entry of a descriptor table ("The Virtqueue Descriptor Table"). */
struct Descriptor {
  uint64_t addr;
  uint32_t len;
  uint16_t flags;
  uint16_t next;
};
static_assert(sizeof(Descriptor) == VIRTQ_DESC_SIZE);

/** One entry of a used ring. */
struct UsedElement {
  uint32_t id;
  uint32_t len;
};
static_assert(sizeof(UsedElement) == VIRTQ_USED_ENTRY_SIZE);

/** Where the areas of a split virtqueue lie in this process, and what was negotiated for it. */
struct Virtqueue {
  /** Entries: a power of two. */
  uint32_t size = 0;
  Descriptor* table = nullptr;
  std::byte* avail = nullptr;
  std::byte* used = nullptr;
  bool indirect = false;
  bool event_idx = false;

  uint16_t& avail_flags() const { return word(avail, VIRTQ_AVAIL_FLAGS); }
  uint16_t& avail_idx() const { return word(avail, VIRTQ_AVAIL_IDX); }
  uint16_t* avail_ring() const { return &word(avail, VIRTQ_AVAIL_RING); }
  /** The used index at which the driver wants an interrupt. */
  uint16_t& used_event() const { return word(avail, VIRTQ_AVAIL_RING + size * VIRTQ_AVAIL_ENTRY_SIZE); }
  uint16_t& used_flags() const { return word(used, VIRTQ_USED_FLAGS); }
  uint16_t& used_idx() const { return word(used, VIRTQ_USED_IDX); }
  UsedElement* used_ring() const { return reinterpret_cast<UsedElement*>(used + VIRTQ_USED_RING); }

 private:
  static uint16_t& word(std::byte* area, uint32_t offset) {
    return *reinterpret_cast<uint16_t*>(area + offset);
  }
};

}  // namespace ringbell::bench
