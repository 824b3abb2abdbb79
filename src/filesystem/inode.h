// An inode: 256 bytes that say everything about a file but its name and contents. Format:
// docs/formats/inode.md. Numbers are given once and never again, so a file handle is volume and
// number.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "base/strong.h"
#include "filesystem/block_pointer.h"

namespace duet::filesystem {

using VolumeId = Strong<struct VolumeIdTag, std::uint32_t>;        // 0: the pool's own files
using InodeNumber = Strong<struct InodeNumberTag, std::uint64_t>;  // 0: none
inline constexpr VolumeId pool_volume{0};
inline constexpr InodeNumber no_inode{0};
inline constexpr InodeNumber root_directory{2};

struct FileKey {
  VolumeId volume;
  InodeNumber inode;
  auto operator<=>(const FileKey&) const = default;
};

enum class FileType : std::uint8_t {
  none = 0,  // the inode is free
  regular = 1,
  directory = 2,
  symlink = 3,
  vdisk = 4,       // the data of a LUN
  attributes = 5,  // extended attributes of another inode
  system = 6,      // a file of the pool itself
  special = 7,     // device, socket, FIFO: `device` and the type bits of `mode` say which
};

inline constexpr std::size_t inode_size = 256;  // bytes
inline constexpr std::uint64_t inodes_per_block = block_size / inode_size;
inline constexpr std::uint8_t max_levels = 5;  // of indirect blocks: 256^5 blocks of 4 KiB
inline constexpr std::uint64_t max_file_blocks = std::uint64_t{1} << 40;
inline constexpr std::uint64_t max_file_size = max_file_blocks * block_size;
inline constexpr std::size_t max_inline = 104;  // bytes in the inode itself: short symlinks

struct Inode {
  FileType type = FileType::none;
  std::uint8_t levels = 0;  // of indirect blocks above the data; 0: `root` is the only block
  std::uint16_t mode = 0;   // permissions and type bits as in POSIX
  std::uint32_t links = 0;
  std::uint32_t owner = 0;
  std::uint32_t group = 0;
  std::uint64_t size = 0;     // bytes
  std::uint64_t blocks = 0;   // data blocks that are allocated (of the last consistency point)
  std::int64_t accessed = 0;  // ns since 1970, as the three below
  std::int64_t modified = 0;
  std::int64_t changed = 0;
  std::int64_t created = 0;
  std::uint64_t change_count = 0;  // grows with every change: NFS change attribute
  InodeNumber attributes;          // inode of the extended attributes, or none
  InodeNumber parent;              // of a directory
  std::uint64_t device = 0;        // special files
  std::uint64_t entries = 0;       // of a directory, without . and ..
  BlockPointer root;               // belongs to consistency points: never set by operations
  std::string inlined;             // at most max_inline bytes

  bool operator==(const Inode&) const = default;
};

// `to`: inode_size bytes. Requires: the bounds above.
void encode(const Inode& inode, MutableBytes to);
// A free inode (type none) is all zeros. Error: invalid (the message names the field).
Result<Inode> decode_inode(Bytes from);

}  // namespace duet::filesystem
