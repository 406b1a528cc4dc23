#ifndef RINGBELL_ADDON_H_
#define RINGBELL_ADDON_H_

#include <napi.h>

/// @file
/// One function a mechanism, each adding its operations to the exports. host/native/addon.ts says what they
/// do.
///
/// Who owns what. A file descriptor is a number that JavaScript passes between threads and closes with
/// `close` (descriptor.cc), so nobody but the caller can know whether the number still means the same file:
/// by itself the addon never closes a descriptor that it gave or was given. It owns what JavaScript cannot
/// close by other means, and takes that back when the environment ends: windows (aperture-table.h), watchers
/// and their private descriptors (watch.cc), ioctls and netlink exchanges under way (ioctl.cc, netlink.cc).
///
/// A worker may be terminated at any moment, from any thread. Every Node-API call that could run JavaScript
/// then fails, and gives an empty value: look before using one.
namespace ringbell {

void InitAffinity(Napi::Env env, Napi::Object exports);
void InitAperture(Napi::Env env, Napi::Object exports);
void InitDescriptor(Napi::Env env, Napi::Object exports);
void InitMemfd(Napi::Env env, Napi::Object exports);
void InitMemlock(Napi::Env env, Napi::Object exports);
void InitIoctl(Napi::Env env, Napi::Object exports);
void InitNetlink(Napi::Env env, Napi::Object exports);
void InitEventfd(Napi::Env env, Napi::Object exports);
void InitPoll(Napi::Env env, Napi::Object exports);
void InitWatch(Napi::Env env, Napi::Object exports);
void InitFileIo(Napi::Env env, Napi::Object exports);
void InitFrames(Napi::Env env, Napi::Object exports);

}  // namespace ringbell

#endif  // RINGBELL_ADDON_H_
