#include "addon.h"

#include "environment.h"

namespace ringbell {
namespace {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  auto* environment = new Environment();
  env.SetInstanceData(environment);
  // Instance data is deleted when references can no longer be: they are given up here, while the environment
  // lives.
  env.AddCleanupHook(
      [](Environment* ending) {
        {
          auto lock = ApertureTable::Lock();
          for (auto& [base, hold] : ending->holds) hold.aperture.reset();
        }
        ending->holds.clear();
        ending->watcher.Reset();
      },
      environment);
  InitAffinity(env, exports);
  InitAperture(env, exports);
  InitDescriptor(env, exports);
  InitMemfd(env, exports);
  InitMemlock(env, exports);
  InitIoctl(env, exports);
  InitNetlink(env, exports);
  InitEventfd(env, exports);
  InitPoll(env, exports);
  InitWatch(env, exports);
  InitFileIo(env, exports);
  InitFrames(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(ringbell, Init)

}  // namespace ringbell
