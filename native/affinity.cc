#include <sched.h>

#include <cerrno>

#include "addon.h"
#include "arguments.h"
#include "system-error.h"

namespace ringbell {
namespace {

Napi::Value SetAffinity(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsArray()) {
    Napi::TypeError::New(env, "cpus must be an array").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const auto cpus = info[0].As<Napi::Array>();
  cpu_set_t set;
  CPU_ZERO(&set);
  for (uint32_t i = 0; i < cpus.Length(); i++) {
    const auto cpu = IntegerArgument(cpus.Get(i), "cpu", 0, CPU_SETSIZE - 1);
    if (!cpu) return env.Undefined();
    CPU_SET(*cpu, &set);
  }
  // 0 is the calling thread, not the process.
  if (sched_setaffinity(0, sizeof(set), &set) < 0) return ThrowSystemError(env, errno, "sched_setaffinity");
  return env.Undefined();
}

Napi::Value Affinity(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) < 0) return ThrowSystemError(env, errno, "sched_getaffinity");
  auto cpus = Napi::Array::New(env);
  uint32_t count = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET(cpu, &set)) cpus.Set(count++, Napi::Number::New(env, cpu));
  return cpus;
}

}  // namespace

void InitAffinity(Napi::Env env, Napi::Object exports) {
  exports.Set("affinity", Napi::Function::New(env, Affinity, "affinity"));
  exports.Set("setAffinity", Napi::Function::New(env, SetAffinity, "setAffinity"));
}

}  // namespace ringbell
