// One consistency point of a Pool under way (docs/protocols/consistency_point.md):
//
//   freeze -> files -> removed trees -> inode files -> dead lists -> snapshots -> own files -> maps
//          -> all written -> flushed -> superblock -> done
//
// Everything before the superblock writes only to blocks that were free, so until the end the disks
// show the state before. It works in short steps, so that requests are answered in between. What it
// needs to read it reads; what fails on the disks is tried again until it is fenced or stopped.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "pool/pool.h"
#include "pool/tree_update.h"

namespace duet::pool {

class Flush : public std::enable_shared_from_this<Flush>, private TreeHost {
 public:
  explicit Flush(Pool& pool);
  // Takes what waits in the pool, in the same turn, and makes it true on the disks.
  void start();
  // Nothing but a superblock, several generations on: see Pool::activate.
  void start_bare(ports::Done<void> done);
  // Nothing more happens; who waits is told `cancelled` by the pool.
  void stop();
  // What disks had in their caches may be gone.
  void write_again() { write_again_ = true; }

  Generation generation() const { return next_.generation; }

  // ---- for orders (volumes and snapshots), at the beginning ----
  // The volume as this point will leave it; null: none.
  Volume* volume(VolumeId id);
  const Volume* volume_or_old(VolumeId id) const;  // to look at only
  bool name_taken(const std::string& name, VolumeId parent) const;
  Volume& add_volume(VolumeKind kind);
  void remove_volume(VolumeId id);
  InodeNumber add_dead_list();
  void remove_own_file(InodeNumber file);
  // After all files are written: snapshots see them.
  void later(std::function<void()> task) { later_.push_back(std::move(task)); }
  void add_zombie(const Zombie& zombie);
  void prune_zombies(VolumeId volume, Generation keep);
  bool has_snapshots(VolumeId volume) const;
  bool is_shown(VolumeId volume) const;  // by a snapshot of this very point
  // Of a volume that goes back: what waits in memory is forgotten.
  void forget_changes(VolumeId volume);
  // Of its snapshots, the newest below `before`; 0: none. Clones count their origin.
  Generation keeps(VolumeId volume, Generation before);

 private:
  friend class Pool;
  using Then = std::function<void()>;
  static constexpr std::size_t writes_in_flight = 16;    // calls of the array
  static constexpr std::size_t blocks_per_write = 1024;  // of one call, about
  static constexpr std::size_t zombie_blocks_per_point = 4096;
  static constexpr std::size_t dead_blocks_per_point = 64;  // of dead lists
  static constexpr std::size_t maps_loaded_at_once = 256;
  static constexpr std::size_t files_per_step = 64;  // without data

  // TreeHost
  Slice find(const BlockPointer& pointer) override;
  BlockPointer place(Slice block, bool data) override;
  void drop(const BlockPointer& pointer) override;
  void drop_tree(const BlockPointer& pointer, std::uint8_t level) override;

  void freeze();
  void next_file();
  void flushed(File& file, const TreeRoot& root, std::int64_t blocks_added);
  void removed_file(File& file);
  void next_zombie();
  void reap(const Zombie& zombie, const Slice& block);
  void dead_list_step();
  void finish_deleting(VolumeId snapshot, VolumeId next, Generation previous);
  void next_inode_file();
  void inode_file(VolumeId volume, const std::shared_ptr<DirtyFile>& changes);
  void next_dead_list();
  void append_dead(Volume& volume, const std::vector<BlockPointer>& dead, Bytes tail);
  void own_files();
  void next_own_file();
  void plan_maps();
  void write_maps();
  void write_all();
  void flush_disks();
  void write_superblock();
  void commit();

  // Common steps. Each calls `then` later, never from inside, and only while this goes on.
  void soon(Then then);
  void retry(const Error& error, Then then);
  void fetch(std::vector<BlockPointer> blocks, Then then);
  void make_room(std::uint64_t blocks, Then then);
  void load_maps(std::vector<std::uint64_t> maps, Then then);
  void update(const TreeRoot& root, const DirtyFile& changes,
              std::function<void(const TreeRoot&, std::int64_t)> then);
  void update_step(std::function<void(const TreeRoot&, std::int64_t)> then);
  template <class F>
  auto mine(F f);

  void release(raid::BlockAddress address);
  void release_now(raid::BlockAddress address);
  // `dead`: whose dead list gets it, unless it is younger than `newest`.
  void give_up(VolumeId volume, const BlockPointer& pointer, Generation newest, VolumeId dead);
  VolumeId successor(VolumeId volume, Generation detached) const;
  Volume as_it_began(const Volume& volume) const;
  Inode& own_inode(InodeNumber file);
  DirtyFile& own_changes(InodeNumber file) { return own_[file]; }
  void emit(raid::BlockAddress address, Slice block, std::uint64_t chunk);
  void chunk_done(std::uint64_t chunk);
  void send();
  void write_batch(std::size_t number);

  Pool& pool_;
  bool stopped_ = false;
  bool write_again_ = false;
  bool full_ = false;
  Superblock next_;
  std::vector<std::shared_ptr<File>> files_;
  std::size_t file_ = 0;
  std::map<VolumeId, Volume> volumes_;  // those that this point changes
  std::set<VolumeId> removed_volumes_;
  std::map<VolumeId, std::map<InodeNumber, Inode>> inode_changes_;
  std::map<VolumeId, std::map<InodeNumber, Inode>>::iterator inode_volume_;
  std::map<InodeNumber, Inode> own_inodes_;  // of the pool's own files, changed; type none: removed
  std::map<InodeNumber, DirtyFile> own_;
  std::vector<InodeNumber> own_queue_;
  std::map<VolumeId, std::vector<BlockPointer>> dead_;
  std::vector<Zombie> zombies_;
  bool zombies_changed_ = false;
  std::size_t reaped_ = 0;
  std::vector<Then> later_;
  std::vector<Pool::Order> orders_;
  std::vector<std::pair<ports::Done<void>, Status>> order_results_;

  VolumeId current_;                                             // whose tree is being updated
  bool inodes_now_ = false;                                      // ... its inode file
  std::map<std::pair<VolumeId, Generation>, Generation> keeps_;  // looked up already
  std::unique_ptr<TreeUpdate> update_;
  std::shared_ptr<Pool::Pins> pins_ = std::make_shared<Pool::Pins>();
  std::vector<raid::BlockAddress> unloaded_releases_;

  struct Chunk {
    std::size_t expected = 0;
    std::vector<raid::BlockWrite> blocks;
  };
  std::map<std::uint64_t, Chunk> chunks_;                 // not complete
  std::uint64_t chunk_ = 0;                               // the last one
  std::map<std::uint64_t, std::uint64_t> planned_chunk_;  // by address, without contents yet
  std::vector<raid::BlockWrite> ready_;
  std::vector<std::vector<raid::BlockWrite>> written_;  // all of it, until it is durable
  std::size_t next_batch_ = 0;                          // of written_, to send
  std::size_t in_flight_ = 0;
  Then all_written_;
};

// A callback that counts only while this consistency point goes on.
template <class F>
auto Flush::mine(F f) {
  return [self = shared_from_this(), f = std::move(f)](auto&&... arguments) mutable {
    if (!self->stopped_) f(std::forward<decltype(arguments)>(arguments)...);
  };
}

}  // namespace duet::pool
