#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "addon.h"
#include "arguments.h"
#include "system-error.h"

namespace ringbell {
namespace {

Napi::Value Memfd(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsString()) {
    Napi::TypeError::New(env, "name must be a string").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const std::string name = info[0].As<Napi::String>().Utf8Value();
  const auto bytes = IntegerArgument(info[1], "bytes", 0, kMaxSafeInteger);
  if (!bytes) return env.Undefined();
  const auto seal = BooleanArgument(info[2], "seal");
  if (!seal) return env.Undefined();
  const int fd = memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return ThrowSystemError(env, errno, "memfd_create");
  const char* failed = nullptr;
  if (ftruncate(fd, *bytes))
    failed = "ftruncate";
  else if (*seal && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
    failed = "fcntl";
  if (failed) {
    const int error = errno;
    close(fd);
    return ThrowSystemError(env, error, failed);
  }
  return Napi::Number::New(env, fd);
}

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

}  // namespace

void InitMemfd(Napi::Env env, Napi::Object exports) {
  exports.Set("memfd", Napi::Function::New(env, Memfd, "memfd"));
  exports.Set("duplicate", Napi::Function::New(env, Duplicate, "duplicate"));
}

}  // namespace ringbell
