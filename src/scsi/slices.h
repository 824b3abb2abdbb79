// Data scattered over slices, as the transport delivers it.
#pragma once

#include <optional>
#include <vector>

#include "base/bytes.h"

namespace duet::scsi {

std::uint64_t total_size(const std::vector<Slice>& slices);
// [offset, offset + size) without copying. Requires: inside.
std::vector<Slice> sub_slices(const std::vector<Slice>& slices, std::uint64_t offset,
                              std::uint64_t size);
std::vector<std::byte> flatten(const std::vector<Slice>& slices);
// Offset of the first difference; a shorter side differs where it ends.
std::optional<std::uint64_t> first_difference(const std::vector<Slice>& a,
                                              const std::vector<Slice>& b);
bool all_zero(const std::vector<Slice>& slices);

}  // namespace duet::scsi
