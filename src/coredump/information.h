// What is said about a dump: the first chunk of the raw dump, written by the panicking node, and
// the JSON beside the core file, made of it by whoever saves it (docs/formats/coredump.md).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"

namespace duet::coredump {

inline constexpr std::size_t max_short_text = 64;
inline constexpr std::size_t max_reason = 1024;
inline constexpr std::size_t max_frames = 64;
inline constexpr std::size_t max_frame = 256;

struct Information {
  NodeId node;  // 1 or 2
  std::uint32_t signal = 0;
  std::uint32_t thread = 0;  // the failing one; 0 none
  Epoch epoch;
  BootNonce boot_nonce;
  LogSequence log_written;
  LogSequence log_freed;
  std::uint64_t wall_time = 0;  // seconds since 1970
  std::string version;
  std::string build_id;
  std::string reason;
  std::string thread_name;
  std::vector<std::string> stack;  // innermost first
  bool operator==(const Information&) const = default;
};

// Texts that are too long are cut, frames beyond the bound left out: a panic is no time to fail.
std::vector<std::byte> encode_information(const Information& information);
// Error: invalid.
Result<Information> decode_information(Bytes bytes);

struct Outcome {
  bool complete = false;
  std::uint64_t core_bytes = 0;
  std::uint64_t raw_bytes = 0;
  std::string end;  // why the raw dump ended
};
// UTF-8 whatever the texts hold: bytes that are none become U+FFFD.
std::string to_json(const Information& information, const Outcome& outcome);

}  // namespace duet::coredump
