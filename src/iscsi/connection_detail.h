// Shared by the files of Connection.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "iscsi/session.h"

namespace duet::iscsi {

// Small data in one piece: text.
inline std::vector<std::byte> flatten(std::span<const Slice> slices) {
  std::vector<std::byte> bytes;
  for (const auto& slice : slices) {
    bytes.insert(bytes.end(), slice.bytes.begin(), slice.bytes.end());
  }
  return bytes;
}

inline std::uint32_t next_transfer_tag(SessionState& session) {
  std::uint32_t tag = session.next_target_transfer_tag++;
  return tag == reserved_tag ? session.next_target_transfer_tag++ : tag;
}

}  // namespace duet::iscsi
