#include <unistd.h>

#include <cerrno>

#include "addon.h"
#include "arguments.h"
#include "system-error.h"

namespace ringbell {
namespace {

Napi::Value ReadFrames(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto fd = FileDescriptorArgument(info[0], "fd");
  if (!fd) return env.Undefined();
  const auto into = BytesArgument(info[1], "into");
  if (!into) return env.Undefined();
  const auto lengths = TypedArrayArgument(info[2], "lengths", napi_uint32_array);
  if (!lengths) return env.Undefined();
  const auto longest = IntegerArgument(info[3], "longest", 1, std::numeric_limits<uint32_t>::max());
  if (!longest) return env.Undefined();
  size_t used = 0;
  uint32_t count = 0;
  while (count < lengths->second && into->Contains(used, static_cast<uint64_t>(*longest))) {
    ssize_t bytes;
    do bytes = read(*fd, into->data + used, *longest);
    while (bytes < 0 && errno == EINTR);
    if (bytes < 0) {
      // What has come already counts; an error comes again at the next call.
      if (count > 0 || errno == EAGAIN) break;
      return ThrowSystemError(env, errno, "read");
    }
    static_cast<uint32_t*>(lengths->first)[count++] = static_cast<uint32_t>(bytes);
    used += bytes;
  }
  return Napi::Number::New(env, count);
}

}  // namespace

void InitFrames(Napi::Env env, Napi::Object exports) {
  exports.Set("readFrames", Napi::Function::New(env, ReadFrames, "readFrames"));
}

}  // namespace ringbell
