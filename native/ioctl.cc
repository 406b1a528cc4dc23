#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "addon.h"
#include "arguments.h"
#include "prepared-function.h"
#include "system-error.h"

namespace ringbell {
namespace {

/// The arguments of an ioctl, taken apart.
struct Request {
  int fd;
  unsigned long number;
  /// The third argument: an integer, or the address of the bytes.
  unsigned long argument = 0;
  std::optional<View> bytes;
};

std::optional<Request> RequestArguments(const Napi::CallbackInfo& info) {
  Request request;
  const auto fd = FileDescriptorArgument(info[0], "fd");
  if (!fd) return std::nullopt;
  request.fd = *fd;
  const auto number = IntegerArgument(info[1], "request", 0, std::numeric_limits<uint32_t>::max());
  if (!number) return std::nullopt;
  request.number = static_cast<unsigned long>(*number);
  if (info[2].IsUndefined()) return request;
  if (info[2].IsNumber()) {
    const auto argument = IntegerArgument(info[2], "argument", -kMaxSafeInteger, kMaxSafeInteger);
    if (!argument) return std::nullopt;
    request.argument = static_cast<unsigned long>(*argument);
    return request;
  }
  request.bytes = BytesArgument(info[2], "argument");
  if (!request.bytes) return std::nullopt;
  // The size that the number itself carries: the kernel would go on behind a shorter buffer.
  if (_IOC_SIZE(request.number) > request.bytes->length) {
    Napi::RangeError::New(info.Env(), "argument must have at least the " +
                                          std::to_string(_IOC_SIZE(request.number)) +
                                          " bytes that the request names")
        .ThrowAsJavaScriptException();
    return std::nullopt;
  }
  request.argument = reinterpret_cast<unsigned long>(request.bytes->data);
  return request;
}

Napi::Value Ioctl(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto request = RequestArguments(info);
  if (!request) return env.Undefined();
  const int result = ioctl(request->fd, request->number, request->argument);
  return result < 0 ? ThrowSystemError(env, errno, "ioctl") : Napi::Number::New(env, result);
}

/// An ioctl whose argument is a copy of its own.
class PreparedIoctl {
 public:
  explicit PreparedIoctl(const Request& request) : request_(request) {
    if (!request.bytes) return;
    bytes_.assign(request.bytes->data, request.bytes->data + request.bytes->length);
    request_.argument = reinterpret_cast<unsigned long>(bytes_.data());
  }

  PreparedIoctl(const PreparedIoctl&) = delete;
  PreparedIoctl& operator=(const PreparedIoctl&) = delete;

  int Issue() const { return ioctl(request_.fd, request_.number, request_.argument); }
  const std::vector<uint8_t>& bytes() const { return bytes_; }

 private:
  Request request_;
  std::vector<uint8_t> bytes_;
};

Napi::Value Issue(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int result = static_cast<PreparedIoctl*>(info.Data())->Issue();
  return result < 0 ? ThrowSystemError(env, errno, "ioctl") : Napi::Number::New(env, result);
}

Napi::Value PrepareIoctl(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto request = RequestArguments(info);
  if (!request) return env.Undefined();
  return PreparedFunction<Issue>(env, "ioctl", new PreparedIoctl(*request), env.Undefined());
}

/// An ioctl on a libuv worker thread. Works on a copy: the caller's buffer may be transferred away meanwhile.
/// libuv and Node wait for it when the environment ends.
class IoctlWorker : public Napi::AsyncWorker {
 public:
  IoctlWorker(Napi::Env env, const Request& request, const Napi::Value& argument, napi_deferred deferred)
      : Napi::AsyncWorker(env, "ringbell.ioctl"), deferred_(deferred), ioctl_(request) {
    if (request.bytes) argument_ = Napi::Persistent(argument.As<Napi::Uint8Array>());
  }

 protected:
  void Execute() override {
    result_ = ioctl_.Issue();
    error_ = result_ < 0 ? errno : 0;
  }

  void OnOK() override {
    if (!argument_.IsEmpty()) {
      const auto now = BytesArgument(argument_.Value(), "argument");
      if (now && now->length == ioctl_.bytes().size()) memcpy(now->data, ioctl_.bytes().data(), now->length);
    }
    if (error_)
      napi_reject_deferred(Env(), deferred_, SystemError(Env(), error_, "ioctl").Value());
    else
      napi_resolve_deferred(Env(), deferred_, Napi::Number::New(Env(), result_));
  }

 private:
  napi_deferred deferred_;
  const PreparedIoctl ioctl_;
  Napi::Reference<Napi::Uint8Array> argument_;
  int result_ = -1;
  int error_ = 0;
};

Napi::Value IoctlAsync(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto request = RequestArguments(info);
  if (!request) return env.Undefined();
  napi_deferred deferred = nullptr;
  napi_value promise = nullptr;
  // Not Napi::Promise::Deferred, which has no way to say that this failed.
  if (napi_create_promise(env, &deferred, &promise) != napi_ok) return env.Undefined();
  // Deletes itself when it has settled the promise.
  (new IoctlWorker(env, *request, info[2], deferred))->Queue();
  return Napi::Value(env, promise);
}

}  // namespace

void InitIoctl(Napi::Env env, Napi::Object exports) {
  exports.Set("ioctl", Napi::Function::New(env, Ioctl, "ioctl"));
  exports.Set("ioctlAsync", Napi::Function::New(env, IoctlAsync, "ioctlAsync"));
  exports.Set("prepareIoctl", Napi::Function::New(env, PrepareIoctl, "prepareIoctl"));
}

}  // namespace ringbell
