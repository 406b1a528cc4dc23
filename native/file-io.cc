#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "addon.h"
#include "arguments.h"
#include "layout.h"
#include "prepared-function.h"
#include "system-error.h"
#include "transfer.h"

namespace ringbell {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tables are in WebAssembly's byte order");

template <typename T>
T Load(const uint8_t* address) {
  T value;
  memcpy(&value, address, sizeof(T));
  return value;
}

/// Zeroes to write, once and for all; aligned for O_DIRECT.
constexpr size_t kZeroBytes = 64 * 1024;
alignas(layout::PAGE_SIZE) uint8_t zeroes[kZeroBytes];

/// An I/O table and the file that it is for.
class FileIo {
 public:
  FileIo(const View& view, int fd, uint64_t table) : view_(view), fd_(fd), table_(table) {}

  /// Whether the first `count` entries lie in the view.
  bool Has(uint64_t count) const { return view_.Contains(table_, count * layout::IO_SIZE); }

  /// Carries out the first `count` entries: how many failed.
  uint32_t Run(uint32_t count) {
    uint32_t failed = 0;
    uint8_t* entry = view_.data + table_;
    for (; count > 0; count--, entry += layout::IO_SIZE) {
      // Answered already: its result is the data path's.
      if (Load<uint32_t>(entry + layout::IO_OP) == layout::IO_OP_NONE) continue;
      const int64_t result = Run(entry);
      memcpy(entry + layout::IO_RESULT, &result, sizeof(result));
      if (result < 0) failed++;
    }
    return failed;
  }

 private:
  /// Carries out the entry at `entry`: bytes moved, or −errno.
  int64_t Run(const uint8_t* entry) {
    const auto offset = Load<int64_t>(entry + layout::IO_OFFSET);
    const auto bytes = Load<int64_t>(entry + layout::IO_BYTES);
    switch (Load<uint32_t>(entry + layout::IO_OP)) {
      case layout::IO_OP_READ:
        return Move(read_, entry, offset);
      case layout::IO_OP_WRITE:
        return Move(write_, entry, offset);
      case layout::IO_OP_WRITE_THROUGH: {
        const int64_t moved = Move(write_, entry, offset);
        const int64_t error = moved < 0 ? moved : Sync();
        return error ? error : moved;
      }
      case layout::IO_OP_SYNC:
        return Sync();
      case layout::IO_OP_PUNCH: {
        const int64_t result = Punch(offset, bytes);
        return result == -EOPNOTSUPP ? Zero(offset, bytes) : result;
      }
      case layout::IO_OP_ZERO:
        return Zero(offset, bytes);
      case layout::IO_OP_DISCARD: {
        // A hint: what cannot give its storage back keeps it.
        const int64_t result = Punch(offset, bytes);
        return result == -EOPNOTSUPP ? 0 : result;
      }
      default:
        return -EINVAL;
    }
  }

  int64_t Move(Transfer& transfer, const uint8_t* entry, int64_t offset) {
    const auto count = Load<uint32_t>(entry + layout::IO_COUNT);
    const auto segments = Load<uint32_t>(entry + layout::IO_SEGMENTS);
    if (!view_.Contains(segments, uint64_t{count} * layout::SEGMENT_SIZE)) return -EFAULT;
    vectors_.clear();
    for (uint32_t index = 0; index < count; index++) {
      const uint8_t* segment = view_.data + segments + uint64_t{index} * layout::SEGMENT_SIZE;
      const auto linear = Load<uint32_t>(segment + layout::SEGMENT_LINEAR);
      const auto bytes = Load<uint32_t>(segment + layout::SEGMENT_BYTES);
      if (!view_.Contains(linear, bytes)) return -EFAULT;
      // A status byte leaves an empty one behind: the kernel has a shorter way for a single vector.
      if (bytes) vectors_.push_back({view_.data + linear, bytes});
    }
    return transfer.Move(vectors_.data(), vectors_.size(), offset);
  }

  int64_t Sync() const {
    while (fdatasync(fd_))
      if (errno != EINTR) return -errno;
    return 0;
  }

  int64_t Punch(int64_t offset, int64_t bytes) const {
    return Allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes);
  }

  int64_t Zero(int64_t offset, int64_t bytes) {
    const int64_t result = Allocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, bytes);
    return result == -EOPNOTSUPP ? WriteZeroes(offset, bytes) : result;
  }

  int64_t Allocate(int mode, int64_t offset, int64_t bytes) const {
    if (bytes == 0) return 0;
    while (fallocate(fd_, mode, offset, bytes))
      if (errno != EINTR) return -errno;
    return bytes;
  }

  int64_t WriteZeroes(int64_t offset, int64_t bytes) {
    for (int64_t written = 0; written < bytes;) {
      iovec vector{zeroes, std::min<uint64_t>(kZeroBytes, bytes - written)};
      const int64_t result = write_.Move(&vector, 1, offset + written);
      if (result < 0) return result;
      written += result;
    }
    return bytes;
  }

  const View view_;
  const int fd_;
  const uint64_t table_;
  Transfer read_{fd_, Direction::kRead};
  Transfer write_{fd_, Direction::kWrite};
  std::vector<iovec> vectors_;
};

Napi::Value Run(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto* io = static_cast<FileIo*>(info.Data());
  const auto count = IntegerArgument(info[0], "count", 0, std::numeric_limits<uint32_t>::max());
  if (!count) return env.Undefined();
  if (!io->Has(*count)) {
    Napi::RangeError::New(env, "the table must lie in the view").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  return Napi::Number::New(env, io->Run(static_cast<uint32_t>(*count)));
}

Napi::Value Prepare(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto view = ApertureArgument(info[0]);
  if (!view) return env.Undefined();
  const auto fd = FileDescriptorArgument(info[1], "fd");
  if (!fd) return env.Undefined();
  const auto table = IntegerArgument(info[2], "table", 0, kMaxSafeInteger);
  if (!table) return env.Undefined();
  if (*table % sizeof(int64_t)) {
    Napi::RangeError::New(env, "table must be a multiple of 8").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  return PreparedFunction<Run>(env, "fileIo", new FileIo(*view, *fd, *table), info[0]);
}

Napi::Value Allocate(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto fd = FileDescriptorArgument(info[0], "fd");
  if (!fd) return env.Undefined();
  const auto bytes = IntegerArgument(info[1], "bytes", 1, kMaxSafeInteger);
  if (!bytes) return env.Undefined();
  int error;
  // Unlike fallocate, it writes where the file system cannot allocate; unlike others, it returns its error.
  do error = posix_fallocate(*fd, 0, *bytes);
  while (error == EINTR);
  return error ? ThrowSystemError(env, error, "posix_fallocate") : env.Undefined();
}

}  // namespace

void InitFileIo(Napi::Env env, Napi::Object exports) {
  exports.Set("allocate", Napi::Function::New(env, Allocate, "allocate"));
  exports.Set("prepareFileIo", Napi::Function::New(env, Prepare, "prepareFileIo"));
}

}  // namespace ringbell
