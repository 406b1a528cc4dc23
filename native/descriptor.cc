#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "addon.h"
#include "arguments.h"
#include "system-error.h"

namespace ringbell {
namespace {

Napi::Value Duplicate(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto fd = FileDescriptorArgument(info[0], "fd");
  if (!fd) return env.Undefined();
  if (info[1].IsUndefined()) {
    const int copy = fcntl(*fd, F_DUPFD_CLOEXEC, 0);
    return copy < 0 ? ThrowSystemError(env, errno, "fcntl") : Napi::Number::New(env, copy);
  }
  const auto target = FileDescriptorArgument(info[1], "target");
  if (!target) return env.Undefined();
  int copy;
  // EBUSY: another thread is in the middle of getting the same number from open(2).
  do copy = dup3(*fd, *target, O_CLOEXEC);
  while (copy < 0 && (errno == EINTR || errno == EBUSY));
  return copy < 0 ? ThrowSystemError(env, errno, "dup3") : Napi::Number::New(env, copy);
}

Napi::Value Close(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto fd = FileDescriptorArgument(info[0], "fd");
  if (!fd) return env.Undefined();
  // EINTR: Linux has closed it all the same, and a second try might close what another thread has opened
  // since.
  if (close(*fd) && errno != EINTR) return ThrowSystemError(env, errno, "close");
  return env.Undefined();
}

}  // namespace

void InitDescriptor(Napi::Env env, Napi::Object exports) {
  exports.Set("duplicate", Napi::Function::New(env, Duplicate, "duplicate"));
  exports.Set("close", Napi::Function::New(env, Close, "close"));
}

}  // namespace ringbell
