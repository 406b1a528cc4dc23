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

/// Bytes; what memfd_create(2) takes: NAME_MAX without its own prefix "memfd:".
constexpr size_t kNameMax = 249;

/// `name` as far as it fits, in whole characters.
std::string Shorten(std::string name) {
  if (name.size() <= kNameMax) return name;
  size_t end = kNameMax;
  while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xc0) == 0x80) end--;
  name.resize(end);
  return name;
}

Napi::Value Memfd(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsString()) {
    Napi::TypeError::New(env, "name must be a string").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const std::string name = Shorten(info[0].As<Napi::String>().Utf8Value());
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

}  // namespace

void InitMemfd(Napi::Env env, Napi::Object exports) {
  exports.Set("memfd", Napi::Function::New(env, Memfd, "memfd"));
}

}  // namespace ringbell
