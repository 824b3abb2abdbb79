// For tests: memory that no compression makes smaller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace duet::coredump {

using Buffer = std::vector<std::byte>;

// Always the same for a seed.
inline Buffer noise(std::size_t size, std::uint64_t seed = 1) {
  Buffer out(size);
  for (auto& b : out) {
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    b = static_cast<std::byte>(seed >> 56);
  }
  return out;
}

}  // namespace duet::coredump
