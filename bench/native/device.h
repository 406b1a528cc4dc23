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

/**
 * The device side of a split virtqueue as a C++ programmer writes it: chain by chain, each descriptor copied
 * once and then judged, the used index published once a burst. It makes every check that the engine makes and
 * gives the same verdicts.
 */
class Device {
 public:
  /**
   * `memory` is what linear addresses count from; `regions` ascend by IOVA without overlap; `capacity` is
   * the most segments that a chain may have.
   */
  Device(std::byte* memory, const Virtqueue& queue, std::vector<Region> regions, uint32_t capacity)
      : memory_(memory),
        queue_(queue),
        regions_(std::move(regions)),
        segments_(capacity + queue.size),
        segments_end_(segments_.data() + capacity),
        current_(&kNoRegion) {}

  /** Begins at an index of the available ring; the used index is what the ring says. */
  void start(uint16_t last_avail) {
    last_avail_ = shadow_avail_ = last_avail;
    used_ = signalled_used_ = queue_.used_idx();
    current_ = &kNoRegion;
    fault_ = verdict_ = VERDICT_NONE;
  }

  /** First VERDICT_* that was given; the queue takes no more chains after it. */
  uint32_t verdict() const { return verdict_; }

  /**
   * Takes up to `burst` chains, gives each to `handler`, which answers with the used length, and publishes
   * them: how many.
   */
  template <typename Handler>
  uint32_t serve(uint32_t burst, Handler&& handler) {
    uint32_t count = 0;
    Chain chain;
    while (count < burst && pop(chain)) {
      push(chain.head, handler(chain));
      count++;
    }
    if (count) publish(count);
    return count;
  }

  /** Refuses the queue for a reason that the handler knows. */
  void stop(uint32_t verdict) { refuse(verdict); }

  /** Takes the next chain; false when there is none or it was refused. Its segments last until the next pop.
   */
  [[gnu::always_inline]] bool pop(Chain& chain) {
    if (verdict_) return false;
    if (last_avail_ == shadow_avail_) {
      // Pairs with the driver's store of avail.idx: the entries before it are visible.
      shadow_avail_ = std::atomic_ref(queue_.avail_idx()).load(std::memory_order_acquire);
      if (last_avail_ == shadow_avail_) return false;
      if (static_cast<uint16_t>(shadow_avail_ - last_avail_) > queue_.size)
        return refuse(VERDICT_AVAIL_INDEX);
    }
    chain.head = queue_.avail_ring()[last_avail_ & (queue_.size - 1)];
    if (!walk(chain)) return false;
    last_avail_++;
    return true;
  }

  void push(uint16_t head, uint32_t length) {
    queue_.used_ring()[used_ & (queue_.size - 1)] = {head, length};
    used_++;
  }

  /** Publishes what was pushed, and decides on an interrupt. */
  void publish(uint32_t count) {
    // Sequentially consistent: the suppression word may be read only after the index is visible.
    std::atomic_ref(queue_.used_idx()).store(used_, std::memory_order_seq_cst);
    requests_ += count;
    if (interrupt_due()) interrupts_++;
    signalled_used_ = used_;
  }

 private:
  /** The current region while there has been no hit: contains nothing. */
  static constexpr Region kNoRegion{0, 0, 0, 0};

  /** Follows the chain from its head into the segments; false after a verdict. */
  [[gnu::always_inline]] bool walk(Chain& chain) {
    const Descriptor* table = queue_.table;
    uint32_t entries = queue_.size;
    uint32_t index = chain.head;
    if (index >= entries) return refuse(VERDICT_HEAD);
    const Region* region = current_;
    Segment* segment = segments_.data();
    Segment* readable_end = segment;
    uint32_t left = queue_.size;
    uint32_t total = 0;
    bool in_indirect = false;
    for (;;) {
      // The driver may rewrite its table at any time: what is judged is this copy.
      const Descriptor descriptor = table[index];
      if (descriptor.flags & VIRTQ_DESC_F_INDIRECT) [[unlikely]] {
        if (in_indirect) return refuse(VERDICT_INDIRECT_NESTED);
        table = indirect_table(descriptor.addr, descriptor.len, descriptor.flags, segment);
        if (!table) return false;
        entries = descriptor.len / VIRTQ_DESC_SIZE;
        index = 0;
        in_indirect = true;
        region = current_;
        continue;
      }
      if (left-- == 0) return refuse(VERDICT_CHAIN_TOO_LONG);
      if (descriptor.len == 0) return refuse(VERDICT_ZERO_LENGTH);
      const bool write = descriptor.flags & VIRTQ_DESC_F_WRITE;
      const bool ordered = write || segment == readable_end;
      const uint64_t offset = descriptor.addr - region->iova;
      if (offset < region->bytes && descriptor.len <= region->bytes - offset && !(write && region->deny))
          [[likely]] {
        *segment++ = {static_cast<uint32_t>(region->linear + offset), descriptor.len};
      } else {
        segment =
            append(segment, descriptor.addr, descriptor.len, write ? IOTLB_ACCESS_WRITE : IOTLB_ACCESS_READ);
        if (!segment) return refuse(VERDICT_ADDRESS_OVERFLOW);
        region = current_;
      }
      if (__builtin_add_overflow(total, descriptor.len, &total)) return refuse(VERDICT_TOTAL_LENGTH);
      if (!ordered) return refuse(VERDICT_ORDER);
      if (!write) readable_end = segment;
      if (!(descriptor.flags & VIRTQ_DESC_F_NEXT)) break;
      if (descriptor.next >= entries) return refuse(VERDICT_NEXT);
      index = descriptor.next;
    }
    if (fault_) return refuse(fault_);
    if (segment > segments_end_) return refuse(VERDICT_TOO_MANY_SEGMENTS);
    chain.readable = readable_end - segments_.data();
    chain.segments = {segments_.data(), segment};
    return true;
  }

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

  bool interrupt_due() const {
    if (!queue_.event_idx) return !(queue_.avail_flags() & VIRTQ_AVAIL_F_NO_INTERRUPT);
    // vring_need_event of "Used Buffer Notification Suppression", modulo 2^16.
    const uint16_t since_event = used_ - queue_.used_event() - 1;
    return since_event < static_cast<uint16_t>(used_ - signalled_used_);
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
  uint16_t last_avail_ = 0;
  uint16_t shadow_avail_ = 0;
  uint16_t used_ = 0;
  uint16_t signalled_used_ = 0;
  /** First VERDICT_* about an address of the chain being walked. */
  uint32_t fault_ = VERDICT_NONE;
  uint32_t verdict_ = VERDICT_NONE;
  /** Counted because the engine counts: nobody reads them here. */
  uint64_t requests_ = 0;
  uint64_t interrupts_ = 0;
};

}  // namespace ringbell::bench
