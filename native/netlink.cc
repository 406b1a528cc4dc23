#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "addon.h"
#include "arguments.h"
#include "system-error.h"

namespace ringbell {
namespace {

/// Bytes; more than the kernel ever puts into one datagram of a dump (32 KiB).
constexpr size_t kReceiveBytes = 65536;

/// One request to the kernel and everything that it answers, on a socket of its own: no reply of another
/// exchange can come in between, whatever thread this runs on.
class Exchange {
 public:
  Exchange(int protocol, const View& request)
      : protocol_(protocol), request_(request.data, request.data + request.length) {}

  void Run() {
    socket_ = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol_);
    if (socket_ < 0) return Fail("socket");
    Converse();
    close(socket_);
  }

  /// 0 or an errno.
  int error() const { return error_; }
  const char* syscall() const { return syscall_; }
  const std::vector<uint8_t>& replies() const { return replies_; }

 private:
  void Converse() {
    // The reason of a refusal in words, and the request not sent back with it. Older kernels know neither.
    const int on = 1;
    setsockopt(socket_, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
    setsockopt(socket_, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
    ssize_t sent;
    // Without an address: to the kernel, which carries the request out inside this very call.
    do sent = send(socket_, request_.data(), request_.size(), 0);
    while (sent < 0 && errno == EINTR);
    if (sent < 0) return Fail("send");
    while (!ended_ && !error_) Receive();
  }

  void Receive() {
    uint8_t buffer[kReceiveBytes];
    sockaddr_nl sender = {};
    socklen_t sender_size = sizeof(sender);
    // The answer is there when `send` returns, and the next part of a dump when the one before has been
    // taken: waiting could only be for what will never come.
    const ssize_t length = recvfrom(socket_, buffer, sizeof(buffer), MSG_DONTWAIT | MSG_TRUNC,
                                    reinterpret_cast<sockaddr*>(&sender), &sender_size);
    if (length < 0) {
      if (errno != EINTR) Fail("recvfrom");
      return;
    }
    if (static_cast<size_t>(length) > sizeof(buffer)) {
      errno = EMSGSIZE;
      return Fail("recvfrom");
    }
    // Privileged processes may send here too; only the kernel has port 0.
    if (sender.nl_pid != 0) return;
    replies_.insert(replies_.end(), buffer, buffer + length);
    size_t offset = 0;
    nlmsghdr header;
    while (offset + sizeof(header) <= static_cast<size_t>(length)) {
      memcpy(&header, buffer + offset, sizeof(header));
      // No message: whoever takes the answer apart says so.
      if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > length - offset) break;
      ended_ |= header.nlmsg_type == NLMSG_ERROR || header.nlmsg_type == NLMSG_DONE;
      offset += NLMSG_ALIGN(header.nlmsg_len);
    }
  }

  void Fail(const char* syscall) {
    error_ = errno;
    syscall_ = syscall;
  }

  int protocol_;
  std::vector<uint8_t> request_;
  int socket_ = -1;
  bool ended_ = false;
  int error_ = 0;
  const char* syscall_ = nullptr;
  std::vector<uint8_t> replies_;
};

/// The arguments of an exchange, which is not carried out yet.
std::optional<Exchange> ExchangeArguments(const Napi::CallbackInfo& info) {
  const auto protocol = IntegerArgument(info[0], "protocol", 0, std::numeric_limits<int>::max());
  if (!protocol) return std::nullopt;
  const auto request = BytesArgument(info[1], "request");
  if (!request) return std::nullopt;
  nlmsghdr header = {};
  if (request->length >= sizeof(header)) memcpy(&header, request->data, sizeof(header));
  // A kernel that owes no answer would be read from for ever.
  if (header.nlmsg_len != request->length || request->length < sizeof(header) ||
      !(header.nlmsg_flags & (NLM_F_ACK | NLM_F_DUMP))) {
    Napi::RangeError::New(info.Env(),
                          "request must be one message that asks for an acknowledgement or a dump")
        .ThrowAsJavaScriptException();
    return std::nullopt;
  }
  return Exchange(static_cast<int>(*protocol), *request);
}

Napi::Value RepliesOf(Napi::Env env, const Exchange& exchange) {
  const auto& replies = exchange.replies();
  Napi::Uint8Array bytes = Napi::Uint8Array::New(env, replies.size());
  // Empty in an environment that is ending.
  if (!bytes.IsEmpty() && !replies.empty()) memcpy(bytes.Data(), replies.data(), replies.size());
  return bytes;
}

Napi::Value Netlink(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto exchange = ExchangeArguments(info);
  if (!exchange) return env.Undefined();
  exchange->Run();
  return exchange->error() ? ThrowSystemError(env, exchange->error(), exchange->syscall())
                           : RepliesOf(env, *exchange);
}

/// An exchange on a libuv worker thread. libuv and Node wait for it when the environment ends.
class NetlinkWorker : public Napi::AsyncWorker {
 public:
  NetlinkWorker(Napi::Env env, Exchange exchange, napi_deferred deferred)
      : Napi::AsyncWorker(env, "ringbell.netlink"), deferred_(deferred), exchange_(std::move(exchange)) {}

 protected:
  void Execute() override { exchange_.Run(); }

  void OnOK() override {
    if (exchange_.error())
      napi_reject_deferred(Env(), deferred_,
                           SystemError(Env(), exchange_.error(), exchange_.syscall()).Value());
    else
      napi_resolve_deferred(Env(), deferred_, RepliesOf(Env(), exchange_));
  }

 private:
  napi_deferred deferred_;
  Exchange exchange_;
};

Napi::Value NetlinkAsync(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto exchange = ExchangeArguments(info);
  if (!exchange) return env.Undefined();
  napi_deferred deferred = nullptr;
  napi_value promise = nullptr;
  // Not Napi::Promise::Deferred, which has no way to say that this failed.
  if (napi_create_promise(env, &deferred, &promise) != napi_ok) return env.Undefined();
  // Deletes itself when it has settled the promise.
  (new NetlinkWorker(env, std::move(*exchange), deferred))->Queue();
  return Napi::Value(env, promise);
}

}  // namespace

void InitNetlink(Napi::Env env, Napi::Object exports) {
  exports.Set("netlink", Napi::Function::New(env, Netlink, "netlink"));
  exports.Set("netlinkAsync", Napi::Function::New(env, NetlinkAsync, "netlinkAsync"));
}

}  // namespace ringbell
