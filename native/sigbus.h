#ifndef RINGBELL_SIGBUS_H_
#define RINGBELL_SIGBUS_H_

#include <cstdint>

namespace ringbell {

/// From now on a SIGBUS in [base, base + length) for want of backing memory puts a zeroed private page there
/// and adds 1 to
/// `*flag`. Installs the process's handler on first use. One guard a base: a second call replaces it. 0 or an
/// errno. Callers serialise (ApertureTable::Lock).
int GuardSigbus(uint8_t* base, uint64_t length, int32_t* flag);

/// Takes the guard off, if there is one. No thread may be inside the range.
void UnguardSigbus(uint8_t* base);

}  // namespace ringbell

#endif  // RINGBELL_SIGBUS_H_
