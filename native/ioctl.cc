#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "addon.h"
#include "arguments.h"
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

/// An ioctl on a libuv worker thread. Works on a copy: the caller's buffer may be transferred away meanwhile.
/// libuv and Node wait for it when the environment ends.
class IoctlWorker : public Napi::AsyncWorker {
 public:
  IoctlWorker(Napi::Env env, const Request& request, const Napi::Value& argument)
      : Napi::AsyncWorker(env, "ringbell.ioctl"), deferred_(env), request_(request) {
    if (!request.bytes) return;
    bytes_.assign(request.bytes->data, request.bytes->data + request.bytes->length);
    request_.argument = reinterpret_cast<unsigned long>(bytes_.data());
    argument_ = Napi::Persistent(argument.As<Napi::Uint8Array>());
  }

  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override {
    result_ = ioctl(request_.fd, request_.number, request_.argument);
    error_ = result_ < 0 ? errno : 0;
  }

  void OnOK() override {
    if (request_.bytes) {
      const auto now = BytesArgument(argument_.Value(), "argument");
      if (now && now->length == bytes_.size()) memcpy(now->data, bytes_.data(), bytes_.size());
    }
    if (error_)
      deferred_.Reject(SystemError(Env(), error_, "ioctl").Value());
    else
      deferred_.Resolve(Napi::Number::New(Env(), result_));
  }

 private:
  Napi::Promise::Deferred deferred_;
  Request request_;
  std::vector<uint8_t> bytes_;
  Napi::Reference<Napi::Uint8Array> argument_;
  int result_ = -1;
  int error_ = 0;
};

Napi::Value IoctlAsync(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto request = RequestArguments(info);
  if (!request) return env.Undefined();
  // Deletes itself when it has resolved.
  auto* worker = new IoctlWorker(env, *request, info[2]);
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

}  // namespace

void InitIoctl(Napi::Env env, Napi::Object exports) {
  exports.Set("ioctl", Napi::Function::New(env, Ioctl, "ioctl"));
  exports.Set("ioctlAsync", Napi::Function::New(env, IoctlAsync, "ioctlAsync"));
}

}  // namespace ringbell
