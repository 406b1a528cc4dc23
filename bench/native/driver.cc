#include "driver.h"

#include <cstring>

namespace ringbell::bench {

namespace {

void write(Descriptor* to, uint64_t addr, uint64_t len, uint64_t flags, uint64_t next) {
  const uint64_t words[2] = {addr, len | flags << 32 | next << 48};
  std::memcpy(to, words, sizeof words);
}

}  // namespace

Driver::Driver(const Virtqueue& queue, uint32_t descriptors, uint32_t data_bytes,
               std::vector<uint64_t> buffers, uint64_t tables, std::byte* table_memory)
    : queue_(queue),
      descriptors_(descriptors),
      data_bytes_(data_bytes),
      buffers_(std::move(buffers)),
      tables_(tables),
      table_memory_(table_memory),
      slots_(queue.size / (tables ? 1 : descriptors)) {
  for (uint32_t slot = 0; slot < slots_; slot++) free_heads_.push_back(tables_ ? slot : slot * descriptors);
}

uint32_t Driver::fill(uint32_t count) {
  uint32_t filled = 0;
  for (; filled < count && !free_heads_.empty(); filled++) {
    const uint16_t head = free_heads_.back();
    free_heads_.pop_back();
    if (tables_) {
      const uint32_t table_bytes = descriptors_ * VIRTQ_DESC_SIZE;
      const uint64_t offset = static_cast<uint64_t>(head) * table_bytes;
      write_chain(reinterpret_cast<Descriptor*>(table_memory_ + offset), 0, &buffers_[head]);
      write(&queue_.table[head], tables_ + offset, table_bytes, VIRTQ_DESC_F_INDIRECT, 0);
    } else {
      write_chain(queue_.table, head, &buffers_[head]);
    }
    queue_.avail_ring()[avail_ & (queue_.size - 1)] = head;
    avail_++;
  }
  // Pairs with the device's load: it must see the entries before the index.
  if (filled) std::atomic_ref(queue_.avail_idx()).store(avail_, std::memory_order_release);
  return filled;
}

uint32_t Driver::reap() {
  const uint16_t used = std::atomic_ref(queue_.used_idx()).load(std::memory_order_acquire);
  uint32_t reaped = 0;
  for (; last_used_ != used; last_used_++, reaped++)
    free_heads_.push_back(queue_.used_ring()[last_used_ & (queue_.size - 1)].id);
  return reaped;
}

void Driver::write_chain(Descriptor* table, uint32_t index, const uint64_t* buffers) {
  const uint32_t last = index + descriptors_ - 1;
  for (uint32_t first = index; index < last; index++, buffers++) {
    // Shaped as a read request: a readable header, then what the device fills.
    const bool header = index == first;
    write(&table[index], *buffers, header ? kHeaderBytes : data_bytes_,
          VIRTQ_DESC_F_NEXT | (header ? 0 : VIRTQ_DESC_F_WRITE), index + 1);
  }
  write(&table[index], *buffers, data_bytes_, descriptors_ > 1 ? VIRTQ_DESC_F_WRITE : 0, 0);
}

}  // namespace ringbell::bench
