// How an acknowledged write of an identity is kept. Recorded in the identity's mailbox before the
// first acknowledgement under a new mode (invariant I4).
#pragma once

#include <cstdint>
#include <string_view>

namespace duet {

enum class Durability : std::uint8_t {
  mirrored = 1,       // in the NVRAM of both nodes
  local = 2,          // only in the serving node's persistent NVRAM: the partner must not take over
  write_through = 3,  // on disk: the acknowledgement waited for its consistency point
};

constexpr std::string_view name(Durability mode) {
  switch (mode) {
    case Durability::mirrored:
      return "mirrored";
    case Durability::local:
      return "local";
    case Durability::write_through:
      return "write-through";
  }
  return "?";
}

}  // namespace duet
