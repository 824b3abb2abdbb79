// Whether bytes are all 0, at the speed of memcmp: asked of whole blocks.
#pragma once

#include "base/bytes.h"

namespace duet {

inline bool all_zero(Bytes bytes) {
  return bytes.empty() || (bytes[0] == std::byte{0} &&
                           std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

}  // namespace duet
