#include "packed-driver.h"

#include <cstring>

#include "driver.h"

namespace ringbell::bench {

PackedDriver::PackedDriver(const Virtqueue& queue, uint32_t descriptors, uint32_t data_bytes,
                           std::vector<uint64_t> buffers, uint64_t tables, std::byte* table_memory,
                           bool in_order)
    : queue_(queue),
      ring_(reinterpret_cast<PackedDescriptor*>(queue.table)),
      descriptors_(descriptors),
      data_bytes_(data_bytes),
      buffers_(std::move(buffers)),
      tables_(tables),
      table_memory_(table_memory),
      in_order_(in_order),
      slots_(queue.size / (tables ? 1 : descriptors)),
      free_(slots_) {}

void PackedDriver::start() {
  std::memset(ring_, 0, queue_.size * sizeof(PackedDescriptor));
  available_ = used_ = {};
  free_ = slots_;
  next_id_ = next_used_id_ = 0;
}

uint32_t PackedDriver::fill(uint32_t count) {
  uint32_t filled = 0;
  for (; filled < count && free_; filled++, free_--) {
    const uint16_t id = next_id_;
    next_id_ = next_id_ + 1 == slots_ ? 0 : next_id_ + 1;
    const uint64_t* buffers = &buffers_[id];
    auto* table =
        reinterpret_cast<PackedDescriptor*>(table_memory_ + id * descriptors_ * sizeof(PackedDescriptor));
    for (uint32_t i = 0; i < descriptors_; i++) {
      const bool header = i == 0 && descriptors_ > 1;
      const uint16_t write_flag = i && !in_order_ ? VIRTQ_DESC_F_WRITE : 0;
      const uint32_t len = header ? kHeaderBytes : data_bytes_;
      if (tables_)
        write(table[i], buffers[i], len, 0, write_flag);
      else
        append(buffers[i], len, id, write_flag | (i + 1 < descriptors_ ? VIRTQ_DESC_F_NEXT : 0));
    }
    if (tables_) {
      const uint32_t bytes = descriptors_ * sizeof(PackedDescriptor);
      append(tables_ + id * bytes, bytes, id, VIRTQ_DESC_F_INDIRECT);
    }
  }
  if (filled) {
    // Pairs with the device's load: it must see all the others before these flags.
    std::atomic_ref(owner_word(*first_)).store(first_word_, std::memory_order_release);
    first_ = nullptr;
  }
  return filled;
}

uint32_t PackedDriver::reap() {
  uint32_t reaped = 0;
  while (free_ < slots_) {
    const uint64_t word = std::atomic_ref(owner_word(ring_[used_.index])).load(std::memory_order_acquire);
    if (((word >> 48) & kOwnerFlags) != (used_.wrap ? kOwnerFlags : 0)) break;
    uint32_t chains = 1;
    if (in_order_) {
      const uint32_t id = static_cast<uint16_t>(word >> 32);
      chains = (id >= next_used_id_ ? id : id + slots_) - next_used_id_ + 1;
    }
    next_used_id_ = (next_used_id_ + chains) % slots_;
    for (uint32_t i = 0; i < chains; i++) used_.advance(tables_ ? 1 : descriptors_, queue_.size);
    free_ += chains;
    reaped += chains;
  }
  return reaped;
}

void PackedDriver::write(PackedDescriptor& to, uint64_t addr, uint32_t len, uint16_t id, uint16_t flags) {
  to.addr = addr;
  owner_word(to) = len | static_cast<uint64_t>(id) << 32 | static_cast<uint64_t>(flags) << 48;
}

void PackedDriver::append(uint64_t addr, uint32_t len, uint16_t id, uint16_t flags) {
  PackedDescriptor& to = ring_[available_.index];
  flags |= available_.wrap ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
  if (first_)
    write(to, addr, len, id, flags);
  else {
    to.addr = addr;
    first_ = &to;
    first_word_ = len | static_cast<uint64_t>(id) << 32 | static_cast<uint64_t>(flags) << 48;
  }
  available_.advance(1, queue_.size);
}

}  // namespace ringbell::bench
