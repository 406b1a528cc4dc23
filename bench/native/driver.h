#pragma once

#include <vector>

#include "virtqueue.h"

namespace ringbell::bench {

/** Bytes of a header-like first descriptor. */
constexpr uint32_t kHeaderBytes = 16;

/**
 * A lean driver: writes every descriptor anew with two 64-bit stores, so that the device's wide loads are not
 * held up by narrow stores, and publishes avail.idx once a fill. It trusts its device.
 */
class Driver {
 public:
  /**
   * `buffers` holds an IOVA for each descriptor of the queue, and as many more as a chain has; all but the
   * first of several descriptors have `data_bytes`, a single one, too. With `tables`
   * not 0 each chain is one indirect descriptor, and the tables lie at that IOVA, which is `table_memory`
   * here.
   */
  Driver(const Virtqueue& queue, uint32_t descriptors, uint32_t data_bytes, std::vector<uint64_t> buffers,
         uint64_t tables, std::byte* table_memory);

  /** Chains that fit on the ring at once. */
  uint32_t slots() const { return slots_; }
  /** Makes up to `count` chains available: how many. */
  uint32_t fill(uint32_t count);
  /** Takes every used element back: how many. */
  uint32_t reap();

 private:
  /** Writes one chain of buffers into `table`, its first descriptor at `index`. */
  void write_chain(Descriptor* table, uint32_t index, const uint64_t* buffers);

  const Virtqueue queue_;
  const uint32_t descriptors_;
  const uint32_t data_bytes_;
  const std::vector<uint64_t> buffers_;
  const uint64_t tables_;
  std::byte* const table_memory_;
  const uint32_t slots_;
  std::vector<uint16_t> free_heads_;
  uint16_t avail_ = 0;
  uint16_t last_used_ = 0;
};

}  // namespace ringbell::bench
