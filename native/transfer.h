#ifndef RINGBELL_TRANSFER_H_
#define RINGBELL_TRANSFER_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

namespace ringbell {

enum class Direction { kRead, kWrite };

/// Moves bytes between a file and scattered memory as preadv(2) and pwritev(2) do, but wholly: goes on after
/// a short transfer or a signal.
class Transfer {
 public:
  Transfer(int fd, Direction direction) : fd_(fd), direction_(direction) {}
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;
  ~Transfer();

  /// Bytes moved, or −errno; −EIO where the file ends early. Uses `segments` up.
  int64_t Move(iovec* segments, size_t count, int64_t offset);

 private:
  /// preadv or pwritev, once: bytes, or −errno.
  int64_t Once(int fd, Direction direction, const iovec* segments, size_t count, int64_t offset) const;
  /// Once, by way of memory that is aligned as O_DIRECT wants it.
  int64_t OnceAligned(const iovec* segments, size_t count, int64_t offset);
  /// Moves the first `bytes` between the bounce buffer and the segments: `bytes`, or −errno.
  int64_t Copy(const iovec* segments, size_t count, size_t bytes) const;
  bool OpenBounce();

  const int fd_;
  const Direction direction_;
  /// The bounce buffer as a file and as memory. The kernel moves the bytes between it and the segments, so
  /// that a segment that is not accessible is EFAULT; memcpy would be a fault.
  int bounce_fd_ = -1;
  void* bounce_ = nullptr;
};

}  // namespace ringbell

#endif  // RINGBELL_TRANSFER_H_
