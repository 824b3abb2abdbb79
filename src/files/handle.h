// What a protocol server gives its clients to name a file: good as long as the file lives, over
// restarts and takeovers; stale for ever after. Format: docs/formats/file_handles.md.
// decode_handle() takes foreign bytes.
#pragma once

#include <array>
#include <cstdint>

#include "base/bytes.h"
#include "base/result.h"
#include "filesystem/inode.h"

namespace duet::files {

inline constexpr std::size_t handle_size = 24;  // bytes

struct Handle {
  filesystem::FileKey file;
  // When the file was made: never changes, so it tells a handle of another pool.
  std::int64_t generation = 0;
  bool operator==(const Handle&) const = default;
};

std::array<std::byte, handle_size> encode(const Handle& handle);
// Errors: invalid, unsupported_version.
Result<Handle> decode_handle(Bytes from);

// The directory of the snapshots of a volume: it is in no directory and on no disk.
inline constexpr filesystem::InodeNumber snapshot_directory{1};
inline constexpr std::string_view snapshot_directory_name = ".snapshot";

}  // namespace duet::files
