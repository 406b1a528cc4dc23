#include "aperture-table.h"

#include <sys/mman.h>

#include <cerrno>
#include <map>

#include "sigbus.h"

namespace ringbell {

int Aperture::Cover(uint64_t offset, uint64_t bytes) {
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
  return mmap(base_ + offset, bytes, PROT_NONE, kFlags, -1, 0) == MAP_FAILED ? errno : 0;
}

int Aperture::Reserve(uint64_t offset, uint64_t bytes) {
  if (windows_.Overlaps(offset, offset + bytes)) return EEXIST;
  if (const int error = Cover(offset, bytes)) return error;
  reserved_.Add(offset, offset + bytes);
  return 0;
}

int Aperture::Map(uint64_t offset, uint64_t bytes, const MapSource& source, int protection) {
  if (!reserved_.Covers(offset, offset + bytes)) return ERANGE;
  if (windows_.Overlaps(offset, offset + bytes)) return EEXIST;
  // Mapped elsewhere first, then moved: a driver that refuses an mmap with MAP_FIXED may already have cost us
  // what was there before, and the hole would be anyone's.
  void* elsewhere =
      mmap(nullptr, bytes, protection, source.shared ? MAP_SHARED : MAP_PRIVATE, source.fd, source.offset);
  if (elsewhere == MAP_FAILED) return errno;
  if (mremap(elsewhere, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, base_ + offset) == MAP_FAILED) {
    const int error = errno;
    munmap(elsewhere, bytes);
    Cover(offset, bytes);
    return error;
  }
  windows_.Add(offset, offset + bytes);
  return 0;
}

int Aperture::Unmap(uint64_t offset, uint64_t bytes) {
  if (!reserved_.Covers(offset, offset + bytes)) return ERANGE;
  if (const int error = Cover(offset, bytes)) return error;
  windows_.Remove(offset, offset + bytes);
  return 0;
}

int Aperture::Protect(uint64_t offset, uint64_t bytes, int protection) {
  if (!windows_.Covers(offset, offset + bytes)) return ENOMEM;
  return mprotect(base_ + offset, bytes, protection) ? errno : 0;
}

void Aperture::Clear() {
  for (const auto& [start, end] : windows_.ranges()) Cover(start, end - start);
  Forget();
}

void Aperture::Forget() {
  UnguardSigbus(base_);
  windows_.Clear();
  reserved_.Clear();
}

namespace {

std::mutex table_mutex;

/// Weak: the environments' holds decide how long an aperture lives.
std::map<uint8_t*, std::weak_ptr<Aperture>>& Table() {
  // Never destroyed: worker threads may still end while the process runs its static destructors.
  static auto* table = new std::map<uint8_t*, std::weak_ptr<Aperture>>();
  return *table;
}

}  // namespace

std::unique_lock<std::mutex> ApertureTable::Lock() { return std::unique_lock<std::mutex>(table_mutex); }

std::shared_ptr<Aperture> ApertureTable::Find(uint8_t* base) {
  const auto found = Table().find(base);
  return found == Table().end() ? nullptr : found->second.lock();
}

std::shared_ptr<Aperture> ApertureTable::Create(uint8_t* base, uint64_t length) {
  auto& table = Table();
  for (auto entry = table.begin(); entry != table.end();)
    entry = entry->second.expired() ? table.erase(entry) : std::next(entry);
  auto aperture = std::make_shared<Aperture>(base, length);
  table[base] = aperture;
  return aperture;
}

}  // namespace ringbell
