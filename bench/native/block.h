#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "device.h"

namespace ringbell::bench {

/** One request of a submission table, as the engine's driver takes it. */
struct Submission {
  uint32_t type;
  uint32_t tag;
  uint64_t sector;
  uint32_t linear;
  uint32_t bytes;
  uint32_t range_flags;
};
static_assert(sizeof(Submission) == SUBMISSION_SIZE && offsetof(Submission, sector) == SUBMISSION_SECTOR &&
              offsetof(Submission, bytes) == SUBMISSION_BYTES);

/** One entry of a completion table, as the engine's driver gives it. */
struct Completion {
  uint32_t tag;
  uint32_t status;
  uint32_t bytes;
  uint32_t reserved;
};
static_assert(sizeof(Completion) == COMPLETION_SIZE && offsetof(Completion, bytes) == COMPLETION_BYTES);

/** The driver side of a block device's queue, without indirect descriptors: READ and WRITE as three
 * descriptors each. */
class BlockDriver {
 public:
  /** The driver's memory begins at `iova`, which is `linear` in `memory`; the slots' shared memory lies at
   * `slots`. */
  BlockDriver(std::byte* memory, const Virtqueue& queue, uint64_t iova, uint32_t linear, uint32_t slots);

  /** Puts up to `count` requests on the ring: how many. */
  uint32_t submit(const Submission* table, uint32_t count);
  /** Collects up to `max` completions: how many. Stops for good when the device answers nonsense. */
  uint32_t reap(Completion* table, uint32_t max);

 private:
  /** What the driver remembers of a request, out of the device's reach. */
  struct Slot {
    uint32_t tag;
    /** Bytes that the device may write. */
    uint32_t writable;
    uint32_t type;
    uint32_t bytes;
    bool busy;
  };

  std::byte* slot_memory(uint32_t slot) const { return memory_ + slots_linear_ + slot * SLOT_SIZE; }

  std::byte* const memory_;
  const Virtqueue queue_;
  const uint64_t delta_;
  const uint32_t slots_linear_;
  std::vector<Slot> slots_;
  std::vector<uint16_t> free_;
  uint16_t avail_ = 0;
  uint16_t last_used_ = 0;
  bool broken_ = false;
  uint64_t kicks_ = 0;
  uint64_t bytes_read_ = 0;
  uint64_t bytes_written_ = 0;
};

/** A memory-backed disk: READ and WRITE, everything else unsupported. */
class Disk {
 public:
  Disk(std::byte* memory, uint32_t linear, uint64_t sectors)
      : memory_(memory), data_(memory + linear), sectors_(sectors) {}

  /** Carries out what a chain asks for: its used length; nothing when it is no request. */
  std::optional<uint32_t> handle(const Chain& chain);

 private:
  uint8_t transfer(uint32_t type, uint64_t sector, std::span<const Segment> data, uint32_t skip,
                   uint32_t drop, uint32_t& written);

  std::byte* const memory_;
  std::byte* const data_;
  const uint64_t sectors_;
  uint64_t bytes_read_ = 0;
  uint64_t bytes_written_ = 0;
};

}  // namespace ringbell::bench
