#include <sys/mman.h>

#include <cerrno>
#include <string>

#include "addon.h"
#include "arguments.h"
#include "environment.h"
#include "layout.h"
#include "sigbus.h"
#include "system-error.h"

namespace ringbell {
namespace {

/// A range of whole pages in a view: the arguments (view, offset, length) that most operations begin with.
struct PageRange {
  View view;
  uint64_t offset;
  /// Bytes.
  uint64_t length;
};

std::optional<PageRange> PageRangeArguments(const Napi::CallbackInfo& info) {
  const auto view = ApertureArgument(info[0]);
  if (!view) return std::nullopt;
  const auto offset = IntegerArgument(info[1], "offset", 0, kMaxSafeInteger);
  if (!offset) return std::nullopt;
  const auto length = IntegerArgument(info[2], "length", 1, kMaxSafeInteger);
  if (!length) return std::nullopt;
  if (*offset % layout::PAGE_SIZE || *length % layout::PAGE_SIZE) {
    Napi::RangeError::New(info.Env(), "offset and length must be whole pages").ThrowAsJavaScriptException();
    return std::nullopt;
  }
  return PageRange{*view, static_cast<uint64_t>(*offset), static_cast<uint64_t>(*length)};
}

std::optional<int> ProtectionArgument(const Napi::Value& value) {
  const std::string name = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  if (name == "none") return PROT_NONE;
  if (name == "r") return PROT_READ;
  if (name == "w") return PROT_WRITE;
  if (name == "rw") return PROT_READ | PROT_WRITE;
  Napi::TypeError::New(value.Env(), "protection must be 'none', 'r', 'w' or 'rw'")
      .ThrowAsJavaScriptException();
  return std::nullopt;
}

std::optional<MapSource> MapSourceArgument(const Napi::Value& value) {
  Napi::Env env = value.Env();
  if (!value.IsObject()) {
    Napi::TypeError::New(env, "source must be an object").ThrowAsJavaScriptException();
    return std::nullopt;
  }
  const auto source = value.As<Napi::Object>();
  const Napi::Value descriptor = source.Get("fd");
  const Napi::Value offset = source.Get("offset");
  const Napi::Value sharing = source.Get("shared");
  // A getter threw, or the worker is being terminated.
  if (descriptor.IsEmpty() || offset.IsEmpty() || sharing.IsEmpty()) return std::nullopt;
  const auto fd = FileDescriptorArgument(descriptor, "source.fd");
  if (!fd) return std::nullopt;
  if (!offset.IsBigInt()) {
    Napi::TypeError::New(env, "source.offset must be a bigint").ThrowAsJavaScriptException();
    return std::nullopt;
  }
  bool lossless = false;
  const int64_t bytes = offset.As<Napi::BigInt>().Int64Value(&lossless);
  if (!lossless || bytes < 0 || bytes % layout::PAGE_SIZE) {
    Napi::RangeError::New(env, "source.offset must be whole pages below 2^63").ThrowAsJavaScriptException();
    return std::nullopt;
  }
  const auto shared =
      sharing.IsUndefined() ? std::optional<bool>(true) : BooleanArgument(sharing, "source.shared");
  if (!shared) return std::nullopt;
  return MapSource{*fd, bytes, *shared};
}

/// The aperture of `view` with this environment's hold on it, or null where nothing was reserved. Needs the
/// lock.
std::shared_ptr<Aperture> Hold(Napi::Env env, const View& view, const Napi::Value& value, bool create) {
  auto aperture = ApertureTable::Find(view.data);
  if (!aperture && create) aperture = ApertureTable::Create(view.data, view.length);
  if (!aperture) return nullptr;
  auto& hold = Environment::Of(env).holds[view.data];
  if (hold.aperture != aperture) {
    hold.aperture = aperture;
    hold.view = Napi::Persistent(value.As<Napi::Uint8Array>());
  }
  return aperture;
}

Napi::Value Address(const Napi::CallbackInfo& info) {
  const auto view = ApertureArgument(info[0]);
  if (!view) return info.Env().Undefined();
  return Napi::BigInt::New(info.Env(), static_cast<uint64_t>(reinterpret_cast<uintptr_t>(view->data)));
}

Napi::Value Reserve(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto range = PageRangeArguments(info);
  if (!range) return env.Undefined();
  if (!range->view.Contains(range->offset, range->length)) return ThrowSystemError(env, ERANGE, "mmap");
  auto lock = ApertureTable::Lock();
  const int error = Hold(env, range->view, info[0], true)->Reserve(range->offset, range->length);
  return error ? ThrowSystemError(env, error, "mmap") : env.Undefined();
}

Napi::Value Map(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto range = PageRangeArguments(info);
  if (!range) return env.Undefined();
  const auto source = MapSourceArgument(info[3]);
  if (!source) return env.Undefined();
  const auto protection = ProtectionArgument(info[4]);
  if (!protection) return env.Undefined();
  auto lock = ApertureTable::Lock();
  const auto aperture = Hold(env, range->view, info[0], false);
  const int error = aperture ? aperture->Map(range->offset, range->length, *source, *protection) : ERANGE;
  return error ? ThrowSystemError(env, error, "mmap") : env.Undefined();
}

Napi::Value Unmap(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto range = PageRangeArguments(info);
  if (!range) return env.Undefined();
  auto lock = ApertureTable::Lock();
  const auto aperture = ApertureTable::Find(range->view.data);
  const int error = aperture ? aperture->Unmap(range->offset, range->length) : ERANGE;
  return error ? ThrowSystemError(env, error, "munmap") : env.Undefined();
}

Napi::Value Protect(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto range = PageRangeArguments(info);
  if (!range) return env.Undefined();
  const auto protection = ProtectionArgument(info[3]);
  if (!protection) return env.Undefined();
  auto lock = ApertureTable::Lock();
  const auto aperture = ApertureTable::Find(range->view.data);
  const int error = aperture ? aperture->Protect(range->offset, range->length, *protection) : ENOMEM;
  return error ? ThrowSystemError(env, error, "mprotect") : env.Undefined();
}

Napi::Value Release(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto view = ApertureArgument(info[0]);
  if (!view) return env.Undefined();
  auto lock = ApertureTable::Lock();
  if (const auto aperture = ApertureTable::Find(view->data)) aperture->Clear();
  Environment::Of(env).holds.erase(view->data);
  return env.Undefined();
}

Napi::Value Forget(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto view = ApertureArgument(info[0]);
  if (!view) return env.Undefined();
  auto lock = ApertureTable::Lock();
  if (const auto aperture = ApertureTable::Find(view->data)) aperture->Forget();
  Environment::Of(env).holds.erase(view->data);
  return env.Undefined();
}

Napi::Value Guard(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto view = ApertureArgument(info[0]);
  if (!view) return env.Undefined();
  const auto flag = IntegerArgument(info[1], "flag", 0, kMaxSafeInteger);
  if (!flag) return env.Undefined();
  if (*flag % sizeof(int32_t) || !view->Contains(*flag, sizeof(int32_t))) {
    Napi::RangeError::New(env, "flag must be the aligned address of an i32 in the view")
        .ThrowAsJavaScriptException();
    return env.Undefined();
  }
  auto lock = ApertureTable::Lock();
  // Only a held aperture is guarded: the guard must not outlive the memory.
  if (!Hold(env, *view, info[0], false)) return ThrowSystemError(env, ERANGE, "sigaction");
  const int error = GuardSigbus(view->data, view->length, reinterpret_cast<int32_t*>(view->data + *flag));
  return error ? ThrowSystemError(env, error, "sigaction") : env.Undefined();
}

}  // namespace

void InitAperture(Napi::Env env, Napi::Object exports) {
  exports.Set("address", Napi::Function::New(env, Address, "address"));
  exports.Set("reserve", Napi::Function::New(env, Reserve, "reserve"));
  exports.Set("map", Napi::Function::New(env, Map, "map"));
  exports.Set("unmap", Napi::Function::New(env, Unmap, "unmap"));
  exports.Set("protect", Napi::Function::New(env, Protect, "protect"));
  exports.Set("release", Napi::Function::New(env, Release, "release"));
  exports.Set("forget", Napi::Function::New(env, Forget, "forget"));
  exports.Set("guardSigbus", Napi::Function::New(env, Guard, "guardSigbus"));
}

}  // namespace ringbell
