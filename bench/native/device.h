#pragma once

#include "translator.h"

namespace ringbell::bench {

/**
 * The device side of a split virtqueue as a C++ programmer writes it: chain by chain, each descriptor copied
 * once and then judged, the used index published once a burst. It makes every check that the engine makes and
 * gives the same verdicts.
 */
class Device : public Translator {
 public:
  /**
   * `memory` is what linear addresses count from; `regions` ascend by IOVA without overlap; `capacity` is
   * the most segments that a chain may have.
   */
  Device(std::byte* memory, const Virtqueue& queue, std::vector<Region> regions, uint32_t capacity)
      : Translator(memory, queue, std::move(regions), capacity) {}

  /** Begins at an index of the available ring; the used index is what the ring says. */
  void start(uint16_t last_avail) {
    last_avail_ = shadow_avail_ = last_avail;
    used_ = signalled_used_ = queue_.used_idx();
    forget();
  }

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
    count_publication(count, interrupt_due());
    signalled_used_ = used_;
  }

 private:
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

  bool interrupt_due() const {
    if (!queue_.event_idx) return !(queue_.avail_flags() & VIRTQ_AVAIL_F_NO_INTERRUPT);
    // vring_need_event of "Used Buffer Notification Suppression", modulo 2^16.
    const uint16_t since_event = used_ - queue_.used_event() - 1;
    return since_event < static_cast<uint16_t>(used_ - signalled_used_);
  }

  uint16_t last_avail_ = 0;
  uint16_t shadow_avail_ = 0;
  uint16_t used_ = 0;
  uint16_t signalled_used_ = 0;
};

}  // namespace ringbell::bench
