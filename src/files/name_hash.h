// The place of a name in its directory (docs/formats/directory.md, "Keys").
#pragma once

#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "filesystem/inode.h"

namespace duet::files {

// SipHash-2-4 (Aumasson and Bernstein, 2012): nobody makes names collide without trying 2^47.
std::uint64_t siphash(std::uint64_t k0, std::uint64_t k1, Bytes bytes);

inline constexpr unsigned ordinal_bits = 16;  // of a key: tells names of equal hash apart
inline constexpr std::uint64_t max_name_hash = (std::uint64_t{1} << 47) - 2;

// 1 .. max_name_hash, so that keys are above the cookies of . and .. and fit 63 bits.
std::uint64_t name_hash(filesystem::InodeNumber directory, std::string_view name);

}  // namespace duet::files
