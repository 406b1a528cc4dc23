#include "range-set.h"

#include <algorithm>
#include <iterator>

namespace ringbell {

bool RangeSet::Covers(uint64_t start, uint64_t end) const {
  auto after = ranges_.upper_bound(start);
  return after != ranges_.begin() && std::prev(after)->second >= end;
}

bool RangeSet::Overlaps(uint64_t start, uint64_t end) const {
  auto after = ranges_.lower_bound(end);
  return after != ranges_.begin() && std::prev(after)->second > start;
}

void RangeSet::Add(uint64_t start, uint64_t end) {
  auto next = ranges_.upper_bound(start);
  if (next != ranges_.begin() && std::prev(next)->second >= start) --next;
  while (next != ranges_.end() && next->first <= end) {
    start = std::min(start, next->first);
    end = std::max(end, next->second);
    next = ranges_.erase(next);
  }
  ranges_.emplace(start, end);
}

void RangeSet::Remove(uint64_t start, uint64_t end) {
  auto next = ranges_.upper_bound(start);
  if (next != ranges_.begin()) --next;
  while (next != ranges_.end() && next->first < end) {
    const auto [first, last] = *next;
    if (last <= start) {
      ++next;
      continue;
    }
    next = ranges_.erase(next);
    if (first < start) ranges_.emplace(first, start);
    if (last > end) ranges_.emplace(end, last);
  }
}

}  // namespace ringbell
