#include "sigbus.h"

#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>

#include "layout.h"

namespace ringbell {
namespace {

/// A guarded range. Nodes are only ever added, and used again, so that the handler can walk the list at any
/// moment; `turn` is odd while a node is being changed and different afterwards. The handler skips such a
/// node: no thread runs inside a range whose guard comes or goes, so it cannot be the one that it looks for.
struct Guard {
  std::atomic<uint32_t> turn{0};
  /// 0 when the node is free.
  std::atomic<uintptr_t> start{0};
  std::atomic<uintptr_t> end{0};
  std::atomic<int32_t*> flag{nullptr};
  Guard* next = nullptr;
};

std::atomic<Guard*> guards{nullptr};
struct sigaction previous_action;
bool installed = false;

static_assert(std::atomic<uintptr_t>::is_always_lock_free && std::atomic<int32_t*>::is_always_lock_free,
              "the handler must not wait for a lock");

/// The counter of the guard around `address`, or null. Async-signal-safe.
int32_t* FindFlag(uintptr_t address) {
  for (Guard* guard = guards.load(std::memory_order_acquire); guard; guard = guard->next) {
    const uint32_t turn = guard->turn.load(std::memory_order_acquire);
    if (turn & 1) continue;
    const uintptr_t start = guard->start.load(std::memory_order_relaxed);
    const uintptr_t end = guard->end.load(std::memory_order_relaxed);
    int32_t* flag = guard->flag.load(std::memory_order_relaxed);
    // Pairs with the release fence in Change: fields that are newer than `turn` show in a newer turn.
    std::atomic_thread_fence(std::memory_order_acquire);
    if (guard->turn.load(std::memory_order_relaxed) != turn) continue;
    if (start && address >= start && address < end) return flag;
  }
  return nullptr;
}

void PassOn(int signal_number, siginfo_t* info, void* context) {
  if (previous_action.sa_flags & SA_SIGINFO)
    return previous_action.sa_sigaction(signal_number, info, context);
  const bool sent = info->si_code <= 0;
  if (previous_action.sa_handler == SIG_IGN && sent) return;
  if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN)
    return previous_action.sa_handler(signal_number);
  // Back to the default: a fault happens again as soon as the handler returns, a signal that was sent does
  // not.
  signal(signal_number, SIG_DFL);
  if (sent) raise(signal_number);
}

void OnSigbus(int signal_number, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  // BUS_ADRERR is memory that its file no longer backs. Anything else (a failing memory chip) is not ours to
  // hide.
  int32_t* flag = info->si_code == BUS_ADRERR ? FindFlag(address) : nullptr;
  void* page = reinterpret_cast<void*>(address & ~uintptr_t{layout::PAGE_SIZE - 1});
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
  if (flag && mmap(page, layout::PAGE_SIZE, PROT_READ | PROT_WRITE, kFlags, -1, 0) != MAP_FAILED)
    __atomic_add_fetch(flag, 1, __ATOMIC_SEQ_CST);
  else
    PassOn(signal_number, info, context);
  errno = saved_errno;
}

void Change(Guard* guard, uintptr_t start, uintptr_t end, int32_t* flag) {
  guard->turn.fetch_add(1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  guard->start.store(start, std::memory_order_relaxed);
  guard->end.store(end, std::memory_order_relaxed);
  guard->flag.store(flag, std::memory_order_relaxed);
  guard->turn.fetch_add(1, std::memory_order_release);
}

Guard* FindGuard(uintptr_t start) {
  for (Guard* guard = guards.load(std::memory_order_relaxed); guard; guard = guard->next)
    if (guard->start.load(std::memory_order_relaxed) == start) return guard;
  return nullptr;
}

}  // namespace

int GuardSigbus(uint8_t* base, uint64_t length, int32_t* flag) {
  const auto start = reinterpret_cast<uintptr_t>(base);
  Guard* guard = FindGuard(start);
  if (!guard) guard = FindGuard(0);
  if (!guard) {
    guard = new Guard();
    guard->next = guards.load(std::memory_order_relaxed);
    guards.store(guard, std::memory_order_release);
  }
  Change(guard, start, start + length, flag);
  if (installed) return 0;
  struct sigaction action = {};
  action.sa_sigaction = OnSigbus;
  // On the alternate stack, where a thread has one: the fault may be deep in a small stack.
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  // Known before the handler can run: a fault elsewhere may come at once.
  if (sigaction(SIGBUS, nullptr, &previous_action) || sigaction(SIGBUS, &action, nullptr)) return errno;
  installed = true;
  return 0;
}

void UnguardSigbus(uint8_t* base) {
  if (Guard* guard = FindGuard(reinterpret_cast<uintptr_t>(base))) Change(guard, 0, 0, nullptr);
}

}  // namespace ringbell
