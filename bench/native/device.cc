#include "device.h"

#include <cstring>

namespace ringbell::bench {

Device::Appended Device::append(uint32_t count, uint64_t iova, uint64_t bytes, uint32_t access) {
  if (iova + (bytes - 1) < iova) return {VERDICT_ADDRESS_OVERFLOW, count};
  while (bytes) {
    const Region* region = find(iova);
    if (!region) return {VERDICT_UNMAPPED, count};
    if (region->deny & access) return {VERDICT_PERMISSION, count};
    if (count == segments_.size()) return {VERDICT_TOO_MANY_SEGMENTS, count};
    current_ = region;
    const uint64_t offset = iova - region->iova;
    const uint64_t piece = std::min(bytes, region->bytes - offset);
    segments_[count++] = {static_cast<uint32_t>(region->linear + offset), static_cast<uint32_t>(piece)};
    iova += piece;
    bytes -= piece;
  }
  return {VERDICT_NONE, count};
}

const Descriptor* Device::copied_table(const Descriptor& descriptor, uint16_t head, uint32_t count) {
  // The pieces of the table stand behind the chain's segments only until they have been copied.
  const Appended pieces = append(count, descriptor.addr, descriptor.len, IOTLB_ACCESS_READ);
  if (pieces.verdict) {
    refuse(pieces.verdict, head);
    return nullptr;
  }
  indirect_copy_.resize(descriptor.len / VIRTQ_DESC_SIZE);
  auto* to = reinterpret_cast<std::byte*>(indirect_copy_.data());
  for (uint32_t i = count; i < pieces.count; i++) {
    std::memcpy(to, memory_ + segments_[i].linear, segments_[i].bytes);
    to += segments_[i].bytes;
  }
  return indirect_copy_.data();
}

}  // namespace ringbell::bench
