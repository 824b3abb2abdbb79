// What the latest requests with an id were answered, in a file of the pool: part of the change that
// each of them made, so it is on the disks when that is, and a replay makes it again. Lets whoever
// serves answer a request that comes again, over consistency points and takeovers (I14). Format:
// docs/formats/reply_log.md. decode_replies() takes foreign bytes.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "files/apply.h"
#include "files/handle.h"

namespace duet::files {

inline constexpr FileKey reply_log{filesystem::pool_volume, InodeNumber(8)};
inline constexpr std::size_t reply_size = 128;      // bytes
inline constexpr std::uint64_t max_replies = 8192;  // the latest are kept
inline constexpr std::uint64_t replies_per_block = filesystem::block_size / reply_size;
inline constexpr std::uint64_t reply_log_size = max_replies * reply_size;  // bytes

struct DirectoryChange {
  InodeNumber directory;
  std::uint64_t before = 0;  // change count
  std::uint64_t after = 0;
  bool operator==(const DirectoryChange&) const = default;
};

struct LoggedReply {
  std::uint64_t number = 0;  // from 1; says where it is kept
  RequestId id;
  RecordKind kind{};
  Handle file;  // made, found, changed or removed
  bool created = false;
  std::int64_t time = 0;
  std::array<DirectoryChange, 2> directories;  // that changed; none: inode 0
  bool operator==(const LoggedReply&) const = default;
};

// `to`: reply_size bytes.
void encode(const LoggedReply& reply, MutableBytes to);
// Those of consecutive places, in no order; free and damaged places are left out, and the damaged
// ones counted.
struct Replies {
  std::vector<LoggedReply> replies;
  std::uint64_t damaged = 0;
};
Replies decode_replies(Bytes from);

// What of a reply is kept. Requires: the outcome is ok.
LoggedReply reply_of(const Record& record, const Reply& reply);

// Drafts its place in the log, and makes the log if there is none. The number that it got.
// Failures: busy, io.
Attempt<std::uint64_t> draft_reply(Draft& draft, LoggedReply reply);

}  // namespace duet::files
