#include "block.h"

#include <cstring>

namespace ringbell::bench {

namespace {

/** What a status byte holds until the device writes it. */
constexpr uint8_t kStatusUnwritten = 0xff;

}  // namespace

BlockDriver::BlockDriver(std::byte* memory, const Virtqueue& queue, uint64_t iova, uint32_t linear,
                         uint32_t slots)
    : memory_(memory),
      queue_(queue),
      delta_(iova - linear),
      slots_linear_(slots),
      slots_(queue.size / SLOT_DESCRIPTORS) {
  for (uint32_t slot = 0; slot < slots_.size(); slot++) free_.push_back(slot);
}

uint32_t BlockDriver::submit(const Submission* table, uint32_t count) {
  if (broken_) return 0;
  uint32_t taken = 0;
  for (; taken < count && !free_.empty(); taken++) {
    const Submission& request = table[taken];
    const uint16_t slot = free_.back();
    free_.pop_back();
    const uint32_t to_device = request.type == VIRTIO_BLK_T_IN ? VIRTQ_DESC_F_WRITE : 0;
    slots_[slot] = {request.tag, to_device ? request.bytes + 1 : 1, request.type, request.bytes, true};

    std::byte* const shared = slot_memory(slot);
    const uint64_t header[2] = {request.type, request.sector};
    std::memcpy(shared + SLOT_HEADER, header, sizeof header);
    shared[SLOT_STATUS] = std::byte{kStatusUnwritten};

    const uint64_t shared_iova = shared - memory_ + delta_;
    const uint16_t head = slot * SLOT_DESCRIPTORS;
    const auto next = [&](int i) { return static_cast<uint16_t>(head + i); };
    Descriptor* const descriptor = queue_.table + head;
    descriptor[0] = {shared_iova + SLOT_HEADER, VIRTIO_BLK_HEADER_SIZE, VIRTQ_DESC_F_NEXT, next(1)};
    descriptor[1] = {request.linear + delta_, request.bytes,
                     static_cast<uint16_t>(VIRTQ_DESC_F_NEXT | to_device), next(2)};
    descriptor[2] = {shared_iova + SLOT_STATUS, 1, VIRTQ_DESC_F_WRITE, 0};
    queue_.avail_ring()[(avail_ + taken) & (queue_.size - 1)] = head;
  }
  if (taken) {
    avail_ += taken;
    // Sequentially consistent: the suppression word may be read only after the index is visible.
    std::atomic_ref(queue_.avail_idx()).store(avail_, std::memory_order_seq_cst);
    if (!(queue_.used_flags() & VIRTQ_USED_F_NO_NOTIFY)) kicks_++;
  }
  return taken;
}

uint32_t BlockDriver::reap(Completion* table, uint32_t max) {
  if (broken_) return 0;
  const uint16_t used = std::atomic_ref(queue_.used_idx()).load(std::memory_order_acquire);
  const uint16_t waiting = used - last_used_;
  if (waiting > slots_.size() - free_.size()) {
    broken_ = true;
    return 0;
  }
  uint32_t count = 0;
  for (; count < waiting && count < max; count++) {
    const UsedElement element = queue_.used_ring()[(last_used_ + count) & (queue_.size - 1)];
    const uint32_t slot = element.id / SLOT_DESCRIPTORS;
    if (slot >= slots_.size() || element.id % SLOT_DESCRIPTORS || !slots_[slot].busy ||
        element.len > slots_[slot].writable) {
      broken_ = true;
      break;
    }
    Slot& request = slots_[slot];
    const auto status = static_cast<uint8_t>(slot_memory(slot)[SLOT_STATUS]);
    table[count] = {request.tag, status, element.len, 0};
    request.busy = false;
    free_.push_back(slot);
    if (status == VIRTIO_BLK_S_OK)
      (request.type == VIRTIO_BLK_T_IN ? bytes_read_ : bytes_written_) += request.bytes;
  }
  last_used_ += count;
  return count;
}

std::optional<uint32_t> Disk::handle(const Chain& chain) {
  const auto readable = chain.segments.first(chain.readable);
  const auto writable = chain.segments.subspan(chain.readable);
  if (writable.empty()) return std::nullopt;

  // The header may be cut into any number of segments ("Message Framing"); data follows it.
  uint64_t header[2];
  uint32_t copied = 0;
  uint32_t skip = 0;
  size_t data = 0;
  for (; data < readable.size(); data++) {
    skip = std::min<uint32_t>(readable[data].bytes, sizeof header - copied);
    std::memcpy(reinterpret_cast<std::byte*>(header) + copied, memory_ + readable[data].linear, skip);
    copied += skip;
    if (copied == sizeof header) break;
  }
  if (copied < sizeof header) return std::nullopt;

  uint32_t written = 0;
  const auto type = static_cast<uint32_t>(header[0]);
  const bool read = type == VIRTIO_BLK_T_IN;
  const uint8_t status = transfer(type, header[1], read ? writable : readable.subspan(data), read ? 0 : skip,
                                  read ? 1 : 0, written);
  const Segment& last = writable.back();
  memory_[last.linear + last.bytes - 1] = std::byte{status};
  return written + 1;
}

/** Moves all of `data` but its first `skip` and last `drop` bytes: the status. */
uint8_t Disk::transfer(uint32_t type, uint64_t sector, std::span<const Segment> data, uint32_t skip,
                       uint32_t drop, uint32_t& written) {
  if (type != VIRTIO_BLK_T_IN && type != VIRTIO_BLK_T_OUT) return VIRTIO_BLK_S_UNSUPP;
  uint64_t total = 0;
  for (const Segment& segment : data) total += segment.bytes;
  total -= skip + drop;
  if (total % VIRTIO_BLK_SECTOR_SIZE || sector > sectors_ ||
      total / VIRTIO_BLK_SECTOR_SIZE > sectors_ - sector)
    return VIRTIO_BLK_S_IOERR;
  std::byte* at = data_ + sector * VIRTIO_BLK_SECTOR_SIZE;
  uint64_t left = total;
  for (const Segment& segment : data) {
    const auto piece = static_cast<uint32_t>(std::min<uint64_t>(segment.bytes - skip, left));
    std::byte* const memory = memory_ + segment.linear + skip;
    if (type == VIRTIO_BLK_T_IN)
      std::memcpy(memory, at, piece);
    else
      std::memcpy(at, memory, piece);
    at += piece;
    left -= piece;
    skip = 0;
  }
  if (type == VIRTIO_BLK_T_IN) {
    written = total;
    bytes_read_ += total;
  } else {
    bytes_written_ += total;
  }
  return VIRTIO_BLK_S_OK;
}

}  // namespace ringbell::bench
