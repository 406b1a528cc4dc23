#ifndef RINGBELL_RANGE_SET_H_
#define RINGBELL_RANGE_SET_H_

#include <cstdint>
#include <map>

namespace ringbell {

/// A set of integers, kept as disjoint ranges [start, end) that never touch.
class RangeSet {
 public:
  /// Whether every integer of [start, end) is in the set.
  bool Covers(uint64_t start, uint64_t end) const;
  /// Whether any integer of [start, end) is in the set.
  bool Overlaps(uint64_t start, uint64_t end) const;
  void Add(uint64_t start, uint64_t end);
  void Remove(uint64_t start, uint64_t end);
  void Clear() { ranges_.clear(); }

  /// Start to end, ascending.
  const std::map<uint64_t, uint64_t>& ranges() const { return ranges_; }

 private:
  std::map<uint64_t, uint64_t> ranges_;
};

}  // namespace ringbell

#endif  // RINGBELL_RANGE_SET_H_
