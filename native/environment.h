#ifndef RINGBELL_ENVIRONMENT_H_
#define RINGBELL_ENVIRONMENT_H_

#include <napi.h>

#include <map>
#include <memory>

#include "aperture-table.h"

namespace ringbell {

/// What one environment (the main thread or a worker) uses of an aperture. Members die in reverse order: the
/// memory outlives the windows that may be taken back with the last share of the aperture.
struct ApertureHold {
  /// Keeps V8 from freeing the memory while windows lie in it.
  Napi::Reference<Napi::Uint8Array> view;
  std::shared_ptr<Aperture> aperture;
};

/// State of one environment; its only state.
struct Environment {
  /// Apertures in use, by address of their first byte.
  std::map<uint8_t*, ApertureHold> holds;
  /// Constructor of watchers.
  Napi::FunctionReference watcher;

  static Environment& Of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }
};

}  // namespace ringbell

#endif  // RINGBELL_ENVIRONMENT_H_
