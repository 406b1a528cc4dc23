#ifndef RINGBELL_SYSTEM_ERROR_H_
#define RINGBELL_SYSTEM_ERROR_H_

#include <napi.h>

namespace ringbell {

/// An Error in the shape of Node's own system errors: `code` ("EINVAL"), `errno` (negative), `syscall`.
Napi::Error SystemError(Napi::Env env, int error, const char* syscall);

/// Throws SystemError in JavaScript; the value to return to it.
Napi::Value ThrowSystemError(Napi::Env env, int error, const char* syscall);

}  // namespace ringbell

#endif  // RINGBELL_SYSTEM_ERROR_H_
