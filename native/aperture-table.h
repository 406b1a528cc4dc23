#ifndef RINGBELL_APERTURE_TABLE_H_
#define RINGBELL_APERTURE_TABLE_H_

#include <cstdint>
#include <memory>
#include <mutex>

#include "range-set.h"

namespace ringbell {

/// Where a window's memory comes from, in mmap(2)'s terms.
struct MapSource {
  int fd;
  /// Bytes.
  int64_t offset;
  bool shared;
};

/// One WebAssembly memory that windows are laid over. Offsets are from its first byte and whole pages.
/// Operations give 0 or an errno, and need ApertureTable::Lock.
///
/// Windows belong to the aperture, not to the thread that mapped them: they go when they are unmapped, when
/// the aperture is cleared, or with the last environment that holds it, unless it was told to forget them. A
/// thread that ends takes none away, because a queue thread may be in the middle of one, in code that does
/// not survive a fault.
class Aperture {
 public:
  Aperture(uint8_t* base, uint64_t length) : base_(base), length_(length) {}
  Aperture(const Aperture&) = delete;
  Aperture& operator=(const Aperture&) = delete;
  ~Aperture() { Clear(); }

  uint64_t length() const { return length_; }

  /// Makes a range inaccessible and ready for windows. EEXIST where a window is.
  int Reserve(uint64_t offset, uint64_t bytes);
  /// EEXIST where a window is, ERANGE outside what is reserved, or what mmap(2) says.
  int Map(uint64_t offset, uint64_t bytes, const MapSource& source, int protection);
  /// ERANGE outside what is reserved.
  int Unmap(uint64_t offset, uint64_t bytes);
  /// ENOMEM where no window is, or what mprotect(2) says.
  int Protect(uint64_t offset, uint64_t bytes, int protection);
  /// Takes every window back, and the SIGBUS guard off; nothing is reserved any more.
  void Clear();
  /// Takes the SIGBUS guard off and leaves the windows where they are, for whoever owns the memory to unmap
  /// with it.
  void Forget();

 private:
  /// Lays inaccessible memory over whatever is there, in one call: at no moment is the range free for the
  /// mmap of another thread to land in.
  int Cover(uint64_t offset, uint64_t bytes);

  uint8_t* const base_;
  const uint64_t length_;
  RangeSet reserved_;
  RangeSet windows_;
};

/// Every aperture of the process, by address: workers use the same memory through views of their own.
class ApertureTable {
 public:
  static std::unique_lock<std::mutex> Lock();
  /// The aperture at `base`, or none. Needs Lock.
  static std::shared_ptr<Aperture> Find(uint8_t* base);
  /// A new aperture at `base`. Needs Lock.
  static std::shared_ptr<Aperture> Create(uint8_t* base, uint64_t length);
};

}  // namespace ringbell

#endif  // RINGBELL_APERTURE_TABLE_H_
