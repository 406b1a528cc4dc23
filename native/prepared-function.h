#ifndef RINGBELL_PREPARED_FUNCTION_H_
#define RINGBELL_PREPARED_FUNCTION_H_

#include <napi.h>

namespace ringbell {

/// A JavaScript function for what is called again and again with the same arguments: `Call` finds them,
/// checked once, in its CallbackInfo's Data. Taking arguments over from JavaScript costs more than most
/// system calls that are made with them. The function owns `prepared`, and keeps `memory` reachable, into
/// which `prepared` may point. An empty value if the environment is ending.
template <Napi::Function::Callback Call, typename Prepared>
Napi::Value PreparedFunction(Napi::Env env, const char* name, Prepared* prepared, const Napi::Value& memory) {
  const auto function = Napi::Function::New<Call>(env, name, prepared);
  if (function.IsEmpty()) {
    delete prepared;
    return function;
  }
  function.AddFinalizer([](Napi::Env, Prepared* unreachable) { delete unreachable; }, prepared);
  napi_set_named_property(env, function, "memory", memory);
  return function;
}

}  // namespace ringbell

#endif  // RINGBELL_PREPARED_FUNCTION_H_
