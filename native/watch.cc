#include <fcntl.h>
#include <unistd.h>
#include <uv.h>

#include <cerrno>

#include "addon.h"
#include "arguments.h"
#include "environment.h"
#include "system-error.h"

namespace ringbell {
namespace {

class Watcher;

/// The libuv side of a watcher; lives until libuv has closed it.
///
/// It polls a duplicate of the descriptor, so that the caller may close the descriptor, and its number be
/// used again, behind libuv's back. After each event the duplicate is made again from the number:
/// `duplicate(other, fd)` gives a number another meaning, and an epoll set would stay with the old one for
/// ever. Whoever does that signals the old eventfd once, and the watcher follows.
struct Poller {
  uv_poll_t handle;
  Napi::Env env;
  /// The caller's number.
  int fd;
  /// Ours.
  int duplicate;
  /// Null once JavaScript has forgotten it, which stops nothing.
  Watcher* watcher = nullptr;
  Napi::FunctionReference callback;
  napi_async_context context = nullptr;
  napi_async_cleanup_hook_handle cleanup = nullptr;
  bool closing = false;
};

uv_handle_t* HandleOf(Poller* poller) { return reinterpret_cast<uv_handle_t*>(&poller->handle); }

/// What `watch` returns.
class Watcher : public Napi::ObjectWrap<Watcher> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "Watcher",
                       {InstanceMethod<&Watcher::AddRef>("ref"), InstanceMethod<&Watcher::RemoveRef>("unref"),
                        InstanceMethod<&Watcher::Stop>("close")});
  }

  explicit Watcher(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Watcher>(info) {}
  ~Watcher() override {
    if (poller_) poller_->watcher = nullptr;
  }

  void Attach(Poller* poller) {
    poller_ = poller;
    poller->watcher = this;
  }
  void Detach() { poller_ = nullptr; }

 private:
  void AddRef(const Napi::CallbackInfo&) {
    if (poller_) uv_ref(HandleOf(poller_));
  }
  void RemoveRef(const Napi::CallbackInfo&) {
    if (poller_) uv_unref(HandleOf(poller_));
  }
  void Stop(const Napi::CallbackInfo&);

  /// Null when stopped.
  Poller* poller_ = nullptr;
};

void Close(Poller* poller) {
  if (poller->closing) return;
  poller->closing = true;
  if (poller->watcher) poller->watcher->Detach();
  poller->callback.Reset();
  napi_async_destroy(poller->env, poller->context);
  uv_close(HandleOf(poller), [](uv_handle_t* handle) {
    auto* closed = static_cast<Poller*>(handle->data);
    // The environment waits for this before it goes.
    napi_remove_async_cleanup_hook(closed->cleanup);
    delete closed;
  });
  // uv_close has taken it out of the epoll set: only now may the number become free.
  close(poller->duplicate);
}

void Watcher::Stop(const Napi::CallbackInfo&) {
  if (poller_) Close(poller_);
}

void OnReadable(uv_poll_t* handle, int, int) {
  auto* poller = static_cast<Poller*>(handle->data);
  const Napi::Env env = poller->env;
  const Napi::HandleScope scope(env);
  // Out of the epoll set before dup3 changes what the duplicate is: epoll forgets by number and file.
  uv_poll_stop(handle);
  if (dup3(poller->fd, poller->duplicate, O_CLOEXEC) < 0 || uv_poll_start(handle, UV_READABLE, OnReadable)) {
    // The caller has closed the descriptor: nothing can come any more.
    Close(poller);
    return;
  }
  // The callback may close the watcher, so `poller` is not used after it.
  napi_make_callback(env, poller->context, env.Global(), poller->callback.Value(), 0, nullptr, nullptr);
  // Thrown with no JavaScript below to catch it: uncaught, as from any other event. A worker that is being
  // terminated has no exception pending.
  if (env.IsExceptionPending()) {
    napi_value error = nullptr;
    napi_get_and_clear_last_exception(env, &error);
    napi_fatal_exception(env, error);
  }
}

Napi::Value Watch(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto fd = FileDescriptorArgument(info[0], "fd");
  if (!fd) return env.Undefined();
  if (!info[1].IsFunction()) {
    Napi::TypeError::New(env, "callback must be a function").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const Napi::Object object = Environment::Of(env).watcher.New({});
  Watcher* watcher = object.IsEmpty() ? nullptr : Watcher::Unwrap(object);
  if (!watcher) return object;
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  const int duplicate = fcntl(*fd, F_DUPFD_CLOEXEC, 0);
  if (duplicate < 0) return ThrowSystemError(env, errno, "fcntl");
  auto* poller = new Poller{{}, env, *fd, duplicate};
  // Asks the kernel whether the file can be polled at all.
  if (const int error = uv_poll_init(loop, &poller->handle, duplicate)) {
    close(duplicate);
    delete poller;
    return ThrowSystemError(env, -error, "epoll_ctl");
  }
  poller->handle.data = poller;
  poller->callback = Napi::Persistent(info[1].As<Napi::Function>());
  napi_async_init(env, object, Napi::String::New(env, "ringbell.watch"), &poller->context);
  napi_add_async_cleanup_hook(
      env, [](napi_async_cleanup_hook_handle, void* data) { Close(static_cast<Poller*>(data)); }, poller,
      &poller->cleanup);
  watcher->Attach(poller);
  uv_poll_start(&poller->handle, UV_READABLE, OnReadable);
  return object;
}

}  // namespace

void InitWatch(Napi::Env env, Napi::Object exports) {
  Environment::Of(env).watcher = Napi::Persistent(Watcher::Define(env));
  exports.Set("watch", Napi::Function::New(env, Watch, "watch"));
}

}  // namespace ringbell
