#include "system-error.h"

#include <uv.h>

#include <cerrno>
#include <string>

namespace ringbell {
namespace {

/// The kernel's own ENOTSUPP, which vhost-vdpa's mmap lets through to user space and no libc names.
constexpr int kKernelNotSupported = 524;

/// The kernel's name of an errno: libuv calls EOPNOTSUPP by that of another which has the same number.
const char* NameOf(int error) {
  if (error == kKernelNotSupported) return "ENOTSUPP";
  if (error == EOPNOTSUPP) return "EOPNOTSUPP";
  return uv_err_name(-error);
}

}  // namespace

Napi::Error SystemError(Napi::Env env, int error, const char* syscall) {
  const bool unnamed = error == kKernelNotSupported;
  const std::string code = NameOf(error);
  const std::string reason = unnamed ? "operation is not supported" : uv_strerror(-error);
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
