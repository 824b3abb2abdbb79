// A file in memory: its inode with everything applied, and its changes in two generations.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "filesystem/inode.h"
#include "pool/dirty_file.h"
#include "pool/resident_tree.h"

namespace duet::pool {

using filesystem::FileKey;
using filesystem::Inode;

struct File {
  FileKey key;
  Inode inode;      // attributes with everything applied; root, levels and blocks as on the disks
  DirtyFile dirty;  // for the next consistency point
  bool changed = false;  // the inode, for the next consistency point
  // Freed: the number is never given again, so nothing comes after.
  bool freed = false;

  // Of the consistency point under way:
  DirtyFile flushing;
  Inode flushing_inode;  // as it was when it began; root, levels and blocks become the new ones
  bool in_flush = false;

  TreeRoot root() const { return {inode.root, inode.levels}; }
  bool clean() const { return !changed && dirty.empty() && !in_flush; }
};

// While somebody holds an era, or an older one, blocks released since are not given away: a read
// that began before a consistency point finds what it looked for.
struct Era {
  std::shared_ptr<Era> next;
  std::function<void()> on_end;
  Era() = default;
  Era(const Era&) = delete;
  Era& operator=(const Era&) = delete;
  ~Era() {
    if (on_end) on_end();
  }
};

}  // namespace duet::pool
