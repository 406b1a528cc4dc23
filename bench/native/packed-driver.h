#pragma once

#include <vector>

#include "packed-device.h"

namespace ringbell::bench {

/**
 * The same lean driver for a packed ring; of a fill it writes the first flags last. With `in_order`
 * everything is readable, as of frames on their way out: nothing is written incompletely, so that all of a
 * burst is one batch.
 */
class PackedDriver {
 public:
  /** As Driver. */
  PackedDriver(const Virtqueue& queue, uint32_t descriptors, uint32_t data_bytes,
               std::vector<uint64_t> buffers, uint64_t tables, std::byte* table_memory, bool in_order);

  /** Chains that fit on the ring at once. */
  uint32_t slots() const { return slots_; }
  /** Begins anew, on an empty ring. */
  void start();
  /** Makes up to `count` chains available: how many. */
  uint32_t fill(uint32_t count);
  /** Takes every used descriptor back: how many chains. */
  uint32_t reap();

 private:
  void write(PackedDescriptor& to, uint64_t addr, uint32_t len, uint16_t id, uint16_t flags);
  void append(uint64_t addr, uint32_t len, uint16_t id, uint16_t flags);

  const Virtqueue queue_;
  PackedDescriptor* const ring_;
  const uint32_t descriptors_;
  const uint32_t data_bytes_;
  const std::vector<uint64_t> buffers_;
  const uint64_t tables_;
  std::byte* const table_memory_;
  const bool in_order_;
  const uint32_t slots_;
  Position available_;
  Position used_;
  uint32_t free_;
  /** Id of the next chain, and of the one to be used next. */
  uint32_t next_id_ = 0;
  uint32_t next_used_id_ = 0;
  PackedDescriptor* first_ = nullptr;
  uint64_t first_word_ = 0;
};

}  // namespace ringbell::bench
