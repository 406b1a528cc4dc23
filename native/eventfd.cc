#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

#include "addon.h"
#include "arguments.h"
#include "system-error.h"

namespace ringbell {
namespace {

Napi::Value Eventfd(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return fd < 0 ? ThrowSystemError(env, errno, "eventfd") : Napi::Number::New(env, fd);
}

Napi::Value Signal(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto fd = FileDescriptorArgument(info[0], "fd");
  if (!fd) return env.Undefined();
  const uint64_t one = 1;
  ssize_t written;
  do written = write(*fd, &one, sizeof(one));
  while (written < 0 && errno == EINTR);
  // EAGAIN: the counter is at its maximum, so whoever waits for it is already due to wake.
  if (written < 0 && errno != EAGAIN) return ThrowSystemError(env, errno, "write");
  return env.Undefined();
}

Napi::Value Drain(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto fd = FileDescriptorArgument(info[0], "fd");
  if (!fd) return env.Undefined();
  uint64_t counter = 0;
  ssize_t taken;
  do taken = read(*fd, &counter, sizeof(counter));
  while (taken < 0 && errno == EINTR);
  if (taken < 0 && errno != EAGAIN) return ThrowSystemError(env, errno, "read");
  return Napi::Number::New(env, static_cast<double>(counter));
}

}  // namespace

void InitEventfd(Napi::Env env, Napi::Object exports) {
  exports.Set("eventfd", Napi::Function::New(env, Eventfd, "eventfd"));
  exports.Set("eventfdSignal", Napi::Function::New(env, Signal, "eventfdSignal"));
  exports.Set("eventfdDrain", Napi::Function::New(env, Drain, "eventfdDrain"));
}

}  // namespace ringbell
