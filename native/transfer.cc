#include "transfer.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace ringbell {
namespace {

/// Bytes. A multiple of any block size that O_DIRECT may ask for.
constexpr size_t kBounceBytes = 1 << 20;

/// Takes the first `bytes` off: what is left starts at the result.
iovec* Advance(iovec* segments, iovec* end, size_t bytes) {
  for (; segments != end && bytes >= segments->iov_len; segments++) bytes -= segments->iov_len;
  if (segments != end) {
    segments->iov_base = static_cast<uint8_t*>(segments->iov_base) + bytes;
    segments->iov_len -= bytes;
  }
  return segments;
}

}  // namespace

Transfer::~Transfer() {
  if (bounce_) munmap(bounce_, kBounceBytes);
  if (bounce_fd_ >= 0) close(bounce_fd_);
}

int64_t Transfer::Once(int fd, Direction direction, const iovec* segments, size_t count,
                       int64_t offset) const {
  ssize_t moved;
  do
    moved = direction == Direction::kRead ? preadv(fd, segments, count, offset)
                                          : pwritev(fd, segments, count, offset);
  while (moved < 0 && errno == EINTR);
  return moved < 0 ? -errno : moved;
}

bool Transfer::OpenBounce() {
  if (bounce_) return true;
  if (bounce_fd_ < 0) bounce_fd_ = memfd_create("ringbell-bounce", MFD_CLOEXEC);
  if (bounce_fd_ < 0 || ftruncate(bounce_fd_, kBounceBytes)) return false;
  void* memory = mmap(nullptr, kBounceBytes, PROT_READ | PROT_WRITE, MAP_SHARED, bounce_fd_, 0);
  if (memory == MAP_FAILED) return false;
  bounce_ = memory;
  return true;
}

int64_t Transfer::OnceAligned(const iovec* segments, size_t count, int64_t offset) {
  if (!OpenBounce()) return -errno;
  iovec aligned{bounce_, 0};
  for (size_t index = 0; index < count && aligned.iov_len < kBounceBytes; index++)
    aligned.iov_len += std::min(segments[index].iov_len, kBounceBytes - aligned.iov_len);
  if (direction_ == Direction::kRead) {
    const int64_t moved = Once(fd_, Direction::kRead, &aligned, 1, offset);
    if (moved < 0) return moved;
    const int64_t copied = Copy(segments, count, moved);
    return copied < 0 ? copied : moved;
  }
  const int64_t copied = Copy(segments, count, aligned.iov_len);
  return copied < 0 ? copied : Once(fd_, Direction::kWrite, &aligned, 1, offset);
}

int64_t Transfer::Copy(const iovec* segments, size_t count, size_t bytes) const {
  size_t copied = 0;
  for (size_t index = 0; index < count && copied < bytes; index++) {
    const iovec part{segments[index].iov_base, std::min(segments[index].iov_len, bytes - copied)};
    const int64_t moved = Once(bounce_fd_, direction_, &part, 1, copied);
    if (moved < 0) return moved;
    if (moved != static_cast<int64_t>(part.iov_len)) return -EFAULT;
    copied += part.iov_len;
  }
  return copied;
}

int64_t Transfer::Move(iovec* segments, size_t count, int64_t offset) {
  iovec* const end = segments + count;
  segments = Advance(segments, end, 0);
  int64_t total = 0;
  bool bounce = false;
  while (segments != end) {
    const size_t batch = std::min<size_t>(end - segments, IOV_MAX);
    const int64_t moved = bounce ? OnceAligned(segments, batch, offset + total)
                                 : Once(fd_, direction_, segments, batch, offset + total);
    if (moved == -EINVAL && !bounce && (fcntl(fd_, F_GETFL) & O_DIRECT)) {
      bounce = true;
      continue;
    }
    if (moved < 0) return moved;
    if (moved == 0) return -EIO;
    total += moved;
    segments = Advance(segments, end, moved);
  }
  return total;
}

}  // namespace ringbell
