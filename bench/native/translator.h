#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "virtqueue.h"

namespace ringbell::bench {

/** A piece of memory that the driver may name by IOVA: one entry of an IOTLB. */
struct Region {
  uint64_t iova;
  /** Bytes; 1 or more. */
  uint64_t bytes;
  /** Offset in the shared memory. */
  uint32_t linear;
  /** IOTLB_ACCESS_* bits that are refused. */
  uint32_t deny;
};

/** A piece of a chain, translated and checked. */
struct Segment {
  uint32_t linear;
  uint32_t bytes;
};

/** A chain that was taken from the ring. */
struct Chain {
  uint16_t head;
  /** Segments that the device may read; the rest, which it may write, follow them. */
  uint32_t readable;
  std::span<const Segment> segments;
};

/** Turns a chain's addresses into segments, and keeps what was wrong with it: for a device of either ring
 * format. */
class Translator {
 public:
  /** First VERDICT_* that was given; the queue takes no more chains after it. */
  uint32_t verdict() const { return verdict_; }

  /** Refuses the queue for a reason that the handler knows. */
  void stop(uint32_t verdict) { refuse(verdict); }

 protected:
  /**
   * `memory` is what linear addresses count from; `regions` ascend by IOVA without overlap; `capacity` is
   * the most segments that a chain may have.
   */
  Translator(std::byte* memory, const Virtqueue& queue, std::vector<Region> regions, uint32_t capacity)
      : memory_(memory),
        queue_(queue),
        regions_(std::move(regions)),
        segments_(capacity + queue.size),
        segments_end_(segments_.data() + capacity),
        current_(&kNoRegion) {}

  /** Forgets verdicts and the region of the last hit. */
  void forget() {
    current_ = &kNoRegion;
    fault_ = verdict_ = VERDICT_NONE;
  }

  /** The current region while there has been no hit: contains nothing. */
  static constexpr Region kNoRegion{0, 0, 0, 0};

  /**
   * Adds a range that lies outside the current region, or in more than one, from `segment` on: the end of the
   * segments, or nullptr if the range passes 2^64. A bad address comes after every mistake of structure, so
   * it is noted in fault_ and the walk goes on to find those.
   */
  Segment* append(Segment* segment, uint64_t iova, uint64_t bytes, uint32_t access);

  /** The table that an indirect descriptor refers to; nullptr after a verdict. Segments from `free` on are
   * free. */
  const Descriptor* indirect_table(uint64_t iova, uint32_t bytes, uint32_t flags, Segment* free) {
    uint32_t verdict = VERDICT_NONE;
    if (!queue_.indirect)
      verdict = VERDICT_INDIRECT_NOT_NEGOTIATED;
    else if (flags & VIRTQ_DESC_F_NEXT)
      verdict = VERDICT_INDIRECT_NEXT;
    else if (bytes == 0 || bytes % VIRTQ_DESC_SIZE)
      verdict = VERDICT_INDIRECT_LENGTH;
    else if (bytes / VIRTQ_DESC_SIZE > queue_.size)
      verdict = VERDICT_CHAIN_TOO_LONG;
    if (verdict) {
      refuse(verdict);
      return nullptr;
    }
    const uint64_t offset = iova - current_->iova;
    if (offset < current_->bytes && bytes <= current_->bytes - offset)
      return reinterpret_cast<const Descriptor*>(memory_ + current_->linear + offset);
    return copied_table(iova, bytes, free);
  }

  /** The same for a table outside the current region, or in more than one: then a copy. */
  const Descriptor* copied_table(uint64_t iova, uint32_t bytes, Segment* free);

  /** The region that contains `iova`, or nullptr. */
  const Region* find(uint64_t iova) const {
    auto after = std::upper_bound(regions_.begin(), regions_.end(), iova,
                                  [](uint64_t value, const Region& region) { return value < region.iova; });
    if (after == regions_.begin()) return nullptr;
    const Region& region = *--after;
    return iova - region.iova < region.bytes ? &region : nullptr;
  }

  /** Notes the verdict; false. */
  [[gnu::cold]] bool refuse(uint32_t verdict);

  std::byte* const memory_;
  const Virtqueue queue_;
  const std::vector<Region> regions_;
  /** Room for the segments of a chain, and for as many more as it has descriptors: walk() looks at its end
   * only. */
  std::vector<Segment> segments_;
  Segment* const segments_end_;
  /** Copy of an indirect table that crosses regions. */
  std::vector<Descriptor> indirect_copy_;
  /** Region of the last hit: one that may be read. */
  const Region* current_;
  /** First VERDICT_* about an address of the chain being walked. */
  uint32_t fault_ = VERDICT_NONE;
  uint32_t verdict_ = VERDICT_NONE;
  /** Counts a publication, and the interrupt that it wants or does not: because the engine counts, nobody
   * reads it here. */
  void count_publication(uint32_t count, bool interrupt) {
    requests_ += count;
    bursts_++;
    (interrupt ? interrupts_ : interrupts_suppressed_)++;
  }

  uint64_t requests_ = 0;
  uint64_t bursts_ = 0;
  uint64_t interrupts_ = 0;
  uint64_t interrupts_suppressed_ = 0;
};

}  // namespace ringbell::bench
