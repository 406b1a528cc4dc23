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
 * The device side of a split virtqueue as a C++ programmer writes it: chain by chain, each descriptor copied once and then
 * judged, the used index published once a burst. It makes every check that the engine makes and gives the same verdicts.
 */
class Device {
 public:
  /**
   * `memory` is what linear addresses count from; `regions`, at least one, ascend by IOVA without overlap; `capacity` is
   * the most segments that a chain may have.
   */
  Device(std::byte* memory, const Virtqueue& queue, std::vector<Region> regions, uint32_t capacity)
      : memory_(memory),
        queue_(queue),
        regions_(std::move(regions)),
        segments_(capacity),
        current_(regions_.data()) {}

  /** Begins at an index of the available ring; the used index is what the ring says. */
  void start(uint16_t last_avail) {
    last_avail_ = shadow_avail_ = last_avail;
    used_ = signalled_used_ = queue_.used_idx();
    verdict_ = VERDICT_NONE;
  }

  /** First VERDICT_* that was given; the queue takes no more chains after it. */
  uint32_t verdict() const { return verdict_; }
  uint32_t verdict_head() const { return verdict_head_; }
  uint64_t requests() const { return requests_; }
  uint64_t interrupts() const { return interrupts_; }

  /**
   * Takes up to `burst` chains, gives each to `handler`, which answers with the used length, and publishes them: how many.
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

  /** Takes the next chain; false when there is none, or when it was refused. Its segments last until the next pop. */
  bool pop(Chain& chain) {
    if (verdict_) return false;
    if (last_avail_ == shadow_avail_) {
      // Pairs with the driver's store of avail.idx: the entries before it are visible.
      shadow_avail_ = std::atomic_ref(queue_.avail_idx()).load(std::memory_order_acquire);
      if (last_avail_ == shadow_avail_) return false;
      if (static_cast<uint16_t>(shadow_avail_ - last_avail_) > queue_.size)
        return refuse(VERDICT_AVAIL_INDEX, shadow_avail_);
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
  bool walk(Chain& chain) {
    const Descriptor* table = queue_.table;
    uint32_t entries = queue_.size;
    uint32_t index = chain.head;
    if (index >= entries) return refuse(VERDICT_HEAD, chain.head);
    bool in_indirect = false;
    uint32_t descriptors = 0;
    uint32_t total = 0;
    uint32_t writable = 0;
    uint32_t fault = VERDICT_NONE;
    uint32_t count = 0;
    uint32_t readable = 0;
    for (;;) {
      // The driver may rewrite its table at any time: what is judged is this copy.
      const Descriptor descriptor = table[index];
      if (descriptor.flags & VIRTQ_DESC_F_INDIRECT) [[unlikely]] {
        if (in_indirect) return refuse(VERDICT_INDIRECT_NESTED, chain.head);
        table = indirect_table(descriptor, chain.head, count);
        if (!table) return false;
        entries = descriptor.len / VIRTQ_DESC_SIZE;
        index = 0;
        in_indirect = true;
        continue;
      }
      if (descriptors++ == queue_.size) return refuse(VERDICT_CHAIN_TOO_LONG, chain.head);
      if (descriptor.len == 0) return refuse(VERDICT_ZERO_LENGTH, chain.head);
      const uint32_t write = descriptor.flags & VIRTQ_DESC_F_WRITE;
      // A bad address comes after every mistake of structure: the walk goes on to find those.
      const uint32_t access = write ? IOTLB_ACCESS_WRITE : IOTLB_ACCESS_READ;
      const uint64_t offset = descriptor.addr - current_->iova;
      if (offset < current_->bytes && descriptor.len <= current_->bytes - offset &&
          !(current_->deny & access) && count < segments_.size()) [[likely]] {
        segments_[count++] = {static_cast<uint32_t>(current_->linear + offset), descriptor.len};
      } else {
        const Appended appended = append(count, descriptor.addr, descriptor.len, access);
        if (appended.verdict == VERDICT_ADDRESS_OVERFLOW) return refuse(appended.verdict, chain.head);
        if (!fault) fault = appended.verdict;
        count = appended.count;
      }
      if (__builtin_add_overflow(total, descriptor.len, &total)) return refuse(VERDICT_TOTAL_LENGTH, chain.head);
      if (!write) {
        if (writable) return refuse(VERDICT_ORDER, chain.head);
        readable = count;
      }
      writable |= write;
      if (!(descriptor.flags & VIRTQ_DESC_F_NEXT)) break;
      if (descriptor.next >= entries) return refuse(VERDICT_NEXT, chain.head);
      index = descriptor.next;
    }
    if (fault) return refuse(fault, chain.head);
    chain.readable = readable;
    chain.segments = {segments_.data(), count};
    return true;
  }

  struct Appended {
    uint32_t verdict;
    /** Segments that there are now. */
    uint32_t count;
  };

  /** Adds a range that lies outside the current region, or in more than one: VERDICT_NONE, or what is wrong with it. */
  Appended append(uint32_t count, uint64_t iova, uint64_t bytes, uint32_t access);

  /**
   * The table that an indirect descriptor refers to; nullptr after a verdict. `count` segments are in use already.
   */
  const Descriptor* indirect_table(const Descriptor& descriptor, uint16_t head, uint32_t count) {
    uint32_t verdict = VERDICT_NONE;
    if (!queue_.indirect) verdict = VERDICT_INDIRECT_NOT_NEGOTIATED;
    else if (descriptor.flags & VIRTQ_DESC_F_NEXT) verdict = VERDICT_INDIRECT_NEXT;
    else if (descriptor.len == 0 || descriptor.len % VIRTQ_DESC_SIZE) verdict = VERDICT_INDIRECT_LENGTH;
    else if (descriptor.len / VIRTQ_DESC_SIZE > queue_.size) verdict = VERDICT_CHAIN_TOO_LONG;
    if (verdict) {
      refuse(verdict, head);
      return nullptr;
    }
    const uint64_t offset = descriptor.addr - current_->iova;
    if (offset < current_->bytes && descriptor.len <= current_->bytes - offset &&
        !(current_->deny & IOTLB_ACCESS_READ)) [[likely]]
      return reinterpret_cast<const Descriptor*>(memory_ + current_->linear + offset);
    return copied_table(descriptor, head, count);
  }

  /** The same for a table outside the current region, or in more than one: then a copy. */
  const Descriptor* copied_table(const Descriptor& descriptor, uint16_t head, uint32_t count);

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

  bool refuse(uint32_t verdict, uint16_t head) {
    verdict_ = verdict;
    verdict_head_ = head;
    return false;
  }

  std::byte* const memory_;
  const Virtqueue queue_;
  const std::vector<Region> regions_;
  std::vector<Segment> segments_;
  /** Copy of an indirect table that crosses regions. */
  std::vector<Descriptor> indirect_copy_;
  /** Region of the last hit. */
  const Region* current_;
  uint16_t last_avail_ = 0;
  uint16_t shadow_avail_ = 0;
  uint16_t used_ = 0;
  uint16_t signalled_used_ = 0;
  uint32_t verdict_ = VERDICT_NONE;
  uint32_t verdict_head_ = 0;
  uint64_t requests_ = 0;
  uint64_t interrupts_ = 0;
};

}  // namespace ringbell::bench
