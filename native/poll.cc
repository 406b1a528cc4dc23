#include <poll.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <optional>

#include "addon.h"
#include "arguments.h"
#include "system-error.h"

namespace ringbell {
namespace {

/// One bit each in a u32.
constexpr size_t kMaxDescriptors = 32;
constexpr int64_t kNanosecondsPerSecond = 1'000'000'000;
constexpr int64_t kNanosecondsPerMicrosecond = 1000;
constexpr double kNanosecondsPerMillisecond = 1e6;

int64_t MonotonicNanoseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kNanosecondsPerSecond + now.tv_nsec;
}

/// poll(2) until `deadline` (CLOCK_MONOTONIC, ns; below 0: for ever), whatever signals come.
int PollUntil(pollfd* descriptors, size_t count, int64_t deadline) {
  for (;;) {
    timespec left = {};
    if (deadline >= 0) {
      const int64_t nanoseconds = std::max(deadline - MonotonicNanoseconds(), int64_t{0});
      left = {nanoseconds / kNanosecondsPerSecond, nanoseconds % kNanosecondsPerSecond};
    }
    const int ready = ppoll(descriptors, count, deadline < 0 ? nullptr : &left, nullptr);
    if (ready >= 0 || errno != EINTR) return ready;
  }
}

/// Reads the counter of an eventfd away: 0 or an errno. Nothing pending is no error: another may have taken
/// it.
int Drain(int fd) {
  uint64_t counter;
  ssize_t taken;
  do taken = read(fd, &counter, sizeof(counter));
  while (taken < 0 && errno == EINTR);
  return taken < 0 && errno != EAGAIN ? errno : 0;
}

Napi::Value Poll(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto fds = TypedArrayArgument(info[0], "fds", napi_int32_array);
  if (!fds) return env.Undefined();
  const auto ready = TypedArrayArgument(info[1], "ready", napi_uint32_array);
  if (!ready) return env.Undefined();
  if (!info[2].IsNumber() || std::isnan(info[2].As<Napi::Number>().DoubleValue())) {
    Napi::TypeError::New(env, "timeoutMs must be a number").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const auto drain = info[3].IsUndefined() ? std::optional<bool>(false) : BooleanArgument(info[3], "drain");
  if (!drain) return env.Undefined();
  const size_t count = fds->second;
  if (count > kMaxDescriptors || ready->second < 1) {
    Napi::RangeError::New(env, "fds must have at most 32 elements, ready at least 1")
        .ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const double timeout_ms = info[2].As<Napi::Number>().DoubleValue();
  // Longer than ten years is for ever, and cannot overflow below.
  constexpr double kForEverMs = 3e11;
  int64_t deadline = -1;
  if (timeout_ms >= 0 && timeout_ms < kForEverMs)
    deadline = timeout_ms == 0
                   ? 0
                   : MonotonicNanoseconds() + static_cast<int64_t>(timeout_ms * kNanosecondsPerMillisecond);
  pollfd descriptors[kMaxDescriptors];
  for (size_t index = 0; index < count; index++)
    descriptors[index] = {static_cast<const int32_t*>(fds->first)[index], POLLIN, 0};
  const int number = PollUntil(descriptors, count, deadline);
  if (number < 0) return ThrowSystemError(env, errno, "poll");
  uint32_t bits = 0;
  for (size_t index = 0; index < count; index++) {
    if (descriptors[index].revents & POLLNVAL) return ThrowSystemError(env, EBADF, "poll");
    // An error or a hang-up counts as readable: the read that follows says what it is.
    if (!descriptors[index].revents) continue;
    bits |= uint32_t{1} << index;
    if (!*drain) continue;
    if (const int error = Drain(descriptors[index].fd)) return ThrowSystemError(env, error, "read");
  }
  *static_cast<uint32_t*>(ready->first) = bits;
  return Napi::Number::New(env, number);
}

Napi::Value Yield(const Napi::CallbackInfo& info) {
  const int64_t start = MonotonicNanoseconds();
  sched_yield();
  return Napi::Number::New(info.Env(), (MonotonicNanoseconds() - start) / kNanosecondsPerMicrosecond);
}

}  // namespace

void InitPoll(Napi::Env env, Napi::Object exports) {
  exports.Set("poll", Napi::Function::New(env, Poll, "poll"));
  exports.Set("yield", Napi::Function::New(env, Yield, "yield"));
}

}  // namespace ringbell
