#ifndef RINGBELL_ARGUMENTS_H_
#define RINGBELL_ARGUMENTS_H_

#include <napi.h>

#include <cstdint>
#include <limits>
#include <optional>

namespace ringbell {

/// The bytes behind a Uint8Array.
struct View {
  uint8_t* data;
  /// Bytes.
  size_t length;

  /// Whether [offset, offset + length) lies inside; never wraps.
  bool Contains(uint64_t offset, uint64_t bytes) const {
    return offset <= length && bytes <= length - offset;
  }
};

/// Largest integer that a JavaScript number holds exactly.
constexpr int64_t kMaxSafeInteger = (int64_t{1} << 53) - 1;

// Each reads an argument, or throws (TypeError: not of that type; RangeError: not in range) and gives
// nothing.

/// An integer in [min, max].
std::optional<int64_t> IntegerArgument(const Napi::Value& value, const char* name, int64_t min, int64_t max);
/// A file descriptor: any int, since the kernel answers EBADF to a bad one.
std::optional<int> FileDescriptorArgument(const Napi::Value& value, const char* name);
/// A boolean.
std::optional<bool> BooleanArgument(const Napi::Value& value, const char* name);
/// Any Uint8Array.
std::optional<View> BytesArgument(const Napi::Value& value, const char* name);
/// A Uint8Array over the whole of its buffer, as an aperture's view is.
std::optional<View> ApertureArgument(const Napi::Value& value);
/// A typed array of `type`: its first element and its number of elements.
std::optional<std::pair<void*, size_t>> TypedArrayArgument(const Napi::Value& value, const char* name,
                                                           napi_typedarray_type type);

}  // namespace ringbell

#endif  // RINGBELL_ARGUMENTS_H_
