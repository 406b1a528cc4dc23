#include "system-error.h"

#include <uv.h>

#include <cerrno>
#include <string>

namespace ringbell {
namespace {

/// The kernel's own ENOTSUPP, which vhost-vdpa's mmap lets through to user space and no libc names.
constexpr int kKernelNotSupported = 524;

/// The kernel's name of an errno: libuv's, but for the two that it calls otherwise or not at all.
std::string NameOf(int error) {
  if (error == kKernelNotSupported) return "ENOTSUPP";
  // Linux has one number for it and for ENOTSUP, which libuv names.
  if (error == EOPNOTSUPP) return "EOPNOTSUPP";
  return uv_err_name(-error);
}

}  // namespace

Napi::Error SystemError(Napi::Env env, int error, const char* syscall) {
  const std::string code = NameOf(error);
  const std::string reason =
      error == kKernelNotSupported ? "operation is not supported" : uv_strerror(-error);
  Napi::Error thrown = Napi::Error::New(env, code + ": " + reason + ", " + syscall);
  thrown.Set("code", code);
  thrown.Set("errno", Napi::Number::New(env, -error));
  thrown.Set("syscall", syscall);
  return thrown;
}

Napi::Value ThrowSystemError(Napi::Env env, int error, const char* syscall) {
  SystemError(env, error, syscall).ThrowAsJavaScriptException();
  return env.Undefined();
}

}  // namespace ringbell
