#include "translator.h"

#include <cstring>
#include <utility>

namespace ringbell::bench {

Segment* Translator::append(Segment* segment, uint64_t iova, uint64_t bytes, uint32_t access) {
  if (iova + (bytes - 1) < iova) return nullptr;
  while (bytes && !fault_) {
    const Region* region = find(iova);
    if (!region) {
      fault_ = VERDICT_UNMAPPED;
    } else if (region->deny & access) {
      fault_ = VERDICT_PERMISSION;
    } else if (segment >= segments_end_) {
      fault_ = VERDICT_TOO_MANY_SEGMENTS;
    } else {
      if (!(region->deny & IOTLB_ACCESS_READ)) current_ = region;
      const uint64_t offset = iova - region->iova;
      const uint64_t piece = std::min(bytes, region->bytes - offset);
      *segment++ = {static_cast<uint32_t>(region->linear + offset), static_cast<uint32_t>(piece)};
      iova += piece;
      bytes -= piece;
    }
  }
  // A faulty range counts as one segment, or a readable descriptor behind it would not be seen to be out of
  // order.
  return fault_ ? segment + 1 : segment;
}

const Descriptor* Translator::copied_table(uint64_t iova, uint32_t bytes, Segment* free) {
  // The pieces of the table stand behind the chain's segments only until they have been copied.
  const uint32_t earlier = std::exchange(fault_, VERDICT_NONE);
  Segment* const end = append(free, iova, bytes, IOTLB_ACCESS_READ);
  if (!end || fault_) {
    refuse(end ? fault_ : VERDICT_ADDRESS_OVERFLOW);
    return nullptr;
  }
  fault_ = earlier;
  indirect_copy_.resize(bytes / VIRTQ_DESC_SIZE);
  auto* to = reinterpret_cast<std::byte*>(indirect_copy_.data());
  for (Segment* piece = free; piece < end; piece++) {
    std::memcpy(to, memory_ + piece->linear, piece->bytes);
    to += piece->bytes;
  }
  return indirect_copy_.data();
}

bool Translator::refuse(uint32_t verdict) {
  verdict_ = verdict;
  return false;
}

}  // namespace ringbell::bench
