#include "files/name_hash.h"

#include <algorithm>
#include <bit>

namespace duet::files {
namespace {

struct Sip {
  std::uint64_t v0, v1, v2, v3;

  void round() {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }
  void word(std::uint64_t m) {
    v3 ^= m;
    round();
    round();
    v0 ^= m;
  }
};

}  // namespace

std::uint64_t siphash(std::uint64_t k0, std::uint64_t k1, Bytes bytes) {
  Sip sip{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261,
          k1 ^ 0x7465646279746573};
  std::uint64_t last = std::uint64_t{bytes.size()} << 56;
  for (; bytes.size() >= 8; bytes = bytes.subspan(8))
    sip.word(load_le<std::uint64_t>(bytes.data()));
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    last |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  }
  sip.word(last);
  sip.v2 ^= 0xff;
  for (int i = 0; i < 4; ++i) sip.round();
  return sip.v0 ^ sip.v1 ^ sip.v2 ^ sip.v3;
}

std::uint64_t name_hash(filesystem::InodeNumber directory, std::string_view name) {
  constexpr std::uint64_t k1 = 0x7269642074657544;  // "Duet dir"
  std::uint64_t hash = siphash(directory.value(), k1, std::as_bytes(std::span(name)));
  return std::clamp<std::uint64_t>(hash >> 17, 1, max_name_hash);
}

}  // namespace duet::files
