#pragma once

#include "translator.h"

namespace ringbell::bench {

/** One entry of a packed ring ("The Virtqueue Descriptor Ring"). */
struct PackedDescriptor {
  uint64_t addr;
  uint32_t len;
  uint16_t id;
  uint16_t flags;
};
static_assert(sizeof(PackedDescriptor) == VIRTQ_DESC_SIZE &&
              offsetof(PackedDescriptor, id) == PVIRTQ_DESC_ID);

constexpr uint16_t kOwnerFlags = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;

/** A place in a packed ring: a descriptor, and the lap. */
struct Position {
  uint32_t index = 0;
  bool wrap = true;

  void advance(uint32_t count, uint32_t size) {
    index += count;
    if (index >= size) {
      index -= size;
      wrap = !wrap;
    }
  }
};

/** Length, buffer id and flags of a descriptor: the word whose flags say whose it is. */
inline uint64_t& owner_word(PackedDescriptor& descriptor) {
  return *reinterpret_cast<uint64_t*>(&descriptor.len);
}

/**
 * The device side of a packed virtqueue as a C++ programmer writes it: chain by chain, each descriptor copied
 * once and then judged. Of a burst the first used descriptor is written last. With `in_order` there is one a
 * batch, and a chain that was not written completely ends its batch. It makes every check that the engine
 * makes and gives the same verdicts.
 */
class PackedDevice : public Translator {
 public:
  PackedDevice(std::byte* memory, const Virtqueue& queue, std::vector<Region> regions, uint32_t capacity,
               bool in_order)
      : Translator(memory, queue, std::move(regions), capacity),
        ring_(reinterpret_cast<PackedDescriptor*>(queue.table)),
        in_order_(in_order) {}

  /** Begins where the driver begins. */
  void start() {
    available_ = used_ = {};
    in_flight_ = 0;
    forget();
  }

  /**
   * Takes up to `burst` chains, gives each to `handler`, which answers with the used length, and publishes
   * them: how many.
   */
  template <typename Handler>
  uint32_t serve(uint32_t burst, Handler&& handler) {
    uint32_t count = 0;
    uint32_t batched = 0;
    uint32_t written = 0;
    Taken taken;
    while (count < burst && pop(taken)) {
      written = handler(taken.chain);
      batched += taken.descriptors;
      count++;
      if (in_order_ && written == taken.writable) continue;
      push(taken.chain.head, batched, written);
      batched = 0;
    }
    if (batched) push(taken.last_id, batched, written);
    if (count) publish(count);
    return count;
  }

 private:
  /** A chain, and what its used descriptor needs to know. */
  struct Taken {
    Chain chain;
    /** Descriptors of the ring. */
    uint32_t descriptors;
    /** Bytes that the device may write. */
    uint32_t writable;
    /** Id of the chain taken last. */
    uint16_t last_id;
  };

  [[gnu::always_inline]] bool pop(Taken& taken) {
    if (verdict_) return false;
    PackedDescriptor& head = ring_[available_.index];
    // Pairs with the driver's store: the descriptors of the burst are visible.
    const uint64_t word = std::atomic_ref(owner_word(head)).load(std::memory_order_acquire);
    const uint16_t owner = available_.wrap ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
    if (((word >> 48) & kOwnerFlags) != owner) return false;
    return walk(taken, word);
  }

  /** Follows the chain from its head into the segments; false after a verdict. */
  [[gnu::always_inline]] bool walk(Taken& taken, uint64_t word) {
    const Region* region = current_;
    Segment* segment = segments_.data();
    Segment* readable_end = segment;
    uint32_t index = available_.index;
    uint32_t count = 0;
    uint32_t total = 0;
    uint32_t readable = 0;
    uint64_t addr = ring_[index].addr;
    for (;;) {
      const uint16_t flags = word >> 48;
      const uint32_t len = word;
      if (flags & VIRTQ_DESC_F_INDIRECT) [[unlikely]] {
        if (count) return refuse(VERDICT_INDIRECT_NEXT);
        return walk_indirect(taken, addr, word);
      }
      if (count++ == queue_.size) return refuse(VERDICT_CHAIN_TOO_LONG);
      if (len == 0) return refuse(VERDICT_ZERO_LENGTH);
      const bool write = flags & VIRTQ_DESC_F_WRITE;
      const bool ordered = write || segment == readable_end;
      const uint64_t offset = addr - region->iova;
      if (offset < region->bytes && len <= region->bytes - offset && !(write && region->deny)) [[likely]] {
        *segment++ = {static_cast<uint32_t>(region->linear + offset), len};
      } else {
        segment = append(segment, addr, len, write ? IOTLB_ACCESS_WRITE : IOTLB_ACCESS_READ);
        if (!segment) return refuse(VERDICT_ADDRESS_OVERFLOW);
        region = current_;
      }
      if (__builtin_add_overflow(total, len, &total)) return refuse(VERDICT_TOTAL_LENGTH);
      if (!ordered) return refuse(VERDICT_ORDER);
      if (!write) {
        readable_end = segment;
        readable = total;
      }
      if (!(flags & VIRTQ_DESC_F_NEXT)) break;
      if (++index == queue_.size) index = 0;
      // The driver may rewrite its ring at any time: what is judged are these copies.
      addr = ring_[index].addr;
      word = owner_word(ring_[index]);
    }
    return finish(taken, segment, readable_end, total - readable, count, word >> 32);
  }

  /** The same for a chain in an indirect table. */
  [[gnu::noinline]] bool walk_indirect(Taken& taken, uint64_t table_addr, uint64_t head) {
    const uint32_t bytes = head;
    const auto* table = reinterpret_cast<const PackedDescriptor*>(
        indirect_table(table_addr, bytes, head >> 48, segments_.data()));
    if (!table) return false;
    const Region* region = current_;
    Segment* segment = segments_.data();
    Segment* readable_end = segment;
    uint32_t total = 0;
    uint32_t readable = 0;
    for (const auto* end = table + bytes / VIRTQ_DESC_SIZE; table < end; table++) {
      const PackedDescriptor descriptor = *table;
      if (descriptor.flags & VIRTQ_DESC_F_INDIRECT) return refuse(VERDICT_INDIRECT_NESTED);
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
      if (!write) {
        readable_end = segment;
        readable = total;
      }
    }
    return finish(taken, segment, readable_end, total - readable, 1, head >> 32);
  }

  [[gnu::always_inline]] bool finish(Taken& taken, Segment* end, Segment* readable_end, uint32_t writable,
                                     uint32_t descriptors, uint16_t id) {
    if (fault_) return refuse(fault_);
    if (end > segments_end_) return refuse(VERDICT_TOO_MANY_SEGMENTS);
    if (descriptors > queue_.size - in_flight_) return refuse(VERDICT_AVAIL_INDEX);
    in_flight_ += descriptors;
    available_.advance(descriptors, queue_.size);
    taken.chain.head = taken.last_id = id;
    taken.chain.readable = readable_end - segments_.data();
    taken.chain.segments = {segments_.data(), end};
    taken.descriptors = descriptors;
    taken.writable = writable;
    return true;
  }

  /** Writes the used descriptor of a chain, or of the batch that ends with it; keeps the first of a burst. */
  void push(uint16_t id, uint32_t descriptors, uint32_t written) {
    const uint16_t flags = (used_.wrap ? kOwnerFlags : 0) | (written ? VIRTQ_DESC_F_WRITE : 0);
    const uint64_t word = written | static_cast<uint64_t>(id) << 32 | static_cast<uint64_t>(flags) << 48;
    if (first_)
      owner_word(ring_[used_.index]) = word;
    else {
      first_ = &ring_[used_.index];
      first_word_ = word;
    }
    used_.advance(descriptors, queue_.size);
    in_flight_ -= descriptors;
  }

  /** Publishes what was pushed, and decides on an interrupt. */
  void publish(uint32_t count) {
    // Sequentially consistent: the suppression word may be read only after the descriptor is visible.
    std::atomic_ref(owner_word(*first_)).store(first_word_, std::memory_order_seq_cst);
    first_ = nullptr;
    auto& suppression = *reinterpret_cast<uint32_t*>(queue_.avail);
    count_publication(count, std::atomic_ref(suppression).load(std::memory_order_relaxed) >> 16 !=
                                 RING_EVENT_FLAGS_DISABLE);
  }

  PackedDescriptor* const ring_;
  const bool in_order_;
  Position available_;
  Position used_;
  /** Descriptors taken and not given back. */
  uint32_t in_flight_ = 0;
  /** The first used descriptor of the burst, and what it will say. */
  PackedDescriptor* first_ = nullptr;
  uint64_t first_word_ = 0;
};

}  // namespace ringbell::bench
