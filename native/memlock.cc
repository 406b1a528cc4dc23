#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <mutex>

#include "addon.h"
#include "arguments.h"
#include "system-error.h"

namespace ringbell {
namespace {

/// The limit is the whole process's: two threads that raise it must not lower it for each other.
std::mutex limit_mutex;

Napi::Value RaiseMemlockLimit(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto bytes = IntegerArgument(info[0], "bytes", 0, kMaxSafeInteger);
  if (!bytes) return env.Undefined();
  const auto wanted = static_cast<rlim_t>(*bytes);
  const std::lock_guard<std::mutex> lock(limit_mutex);
  struct rlimit limit;
  if (getrlimit(RLIMIT_MEMLOCK, &limit)) return ThrowSystemError(env, errno, "getrlimit");
  if (limit.rlim_cur >= wanted) return env.Undefined();
  limit.rlim_cur = wanted;
  limit.rlim_max = std::max(limit.rlim_max, wanted);
  return setrlimit(RLIMIT_MEMLOCK, &limit) ? ThrowSystemError(env, errno, "setrlimit") : env.Undefined();
}

}  // namespace

void InitMemlock(Napi::Env env, Napi::Object exports) {
  exports.Set("raiseMemlockLimit", Napi::Function::New(env, RaiseMemlockLimit, "raiseMemlockLimit"));
}

}  // namespace ringbell
