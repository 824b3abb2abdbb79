// Inside of the checker. It goes through trees in pairs: what image `b` of a volume has and the
// image before it, `a`, has not, is new in b; what a has and b has not, must be in the dead list
// of b. Subtrees that both have are skipped. The functions are sorted by what they look at:
// checker.cc (the way through all of it), checker_walk.cc (trees), checker_space.cc (maps),
// checker_volumes.cc (images and what left them), checker_files.cc (directories, LUNs).
#pragma once

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "pool/block_set.h"
#include "pool/checker.h"
#include "pool/tables.h"

namespace duet::pool {

struct Checker::Impl : std::enable_shared_from_this<Checker::Impl> {
  using Then = std::function<void()>;

  Impl(ports::Scheduler& scheduler, Pool& pool, Options options)
      : scheduler_(scheduler), pool_(pool), options_(std::move(options)) {}

  // ---- trees ----
  enum class Kind : std::uint8_t {
    maps,
    counts,
    own_inodes,
    own_file,
    inode_file,
    file,
    zombie,         // a tree that no file has any more
    zombie_inodes,  // of inodes, whose files go, too
  };
  // Two trees, or subtrees, at the same place: as it was, and as it is.
  struct Item {
    Kind kind = Kind::maps;
    VolumeId volume;
    InodeNumber inode;  // of which file
    BlockPointer a;
    BlockPointer b;
    std::uint8_t a_level = 0;
    std::uint8_t b_level = 0;
    std::uint64_t index = 0;  // among the blocks of its level
  };
  // What is done with the contents of blocks of level 0 of b; not for files.
  using Visit = std::function<void(const Item&, Bytes)>;
  struct Walk {
    bool look = false;  // no accounts of blocks: they are kept by another walk
    std::optional<std::pair<std::uint64_t, std::uint64_t>> only;  // blocks [from, to) of level 0
    Visit visit;
  };

  void walk(Item root, Walk how, Then then);
  void enter(Item item);
  bool leave_out(const Item& item, std::uint64_t index, std::uint8_t level) const;
  bool wants_content(const Item& item) const;
  void step();
  void read(std::vector<raid::BlockRead> reads, int attempt);
  void read_singly(std::size_t next);
  void process();
  void process(const Item& item, Bytes a, Bytes b);
  void process_indirect(const Item& item, Bytes a, Bytes b);
  void process_inodes(const Item& item, Bytes a, Bytes b);
  bool account(const Item& item, const BlockPointer& pointer);
  bool mark(const Item& item, const BlockPointer& pointer);
  bool leave(const Item& item, const BlockPointer& pointer);
  std::string describe(const Item& item) const;
  std::string name_of(VolumeId volume) const;
  static std::string place(raid::BlockAddress address);
  static std::uint64_t fingerprint(const BlockPointer& pointer);

  // ---- the way ----
  void start(ports::Done<CheckReport> done);
  void finish(Status status);
  void problem(std::string text);
  bool over();  // stopped, or the pool was closed: whoever is told so returns at once
  void soon(Then then);
  void walk_all(std::vector<std::pair<Item, Walk>> walks, Then then);

  // ---- space (checker_space.cc) ----
  void check_maps();
  void take_map(std::uint64_t number, Bytes bits);
  void check_counts();
  void compare_space();

  // ---- the pool's own files and volumes (checker_volumes.cc) ----
  void check_own_files();
  void own_files_read();
  void check_volume_records();
  void next_volume();
  void next_image();
  void next_zombie();
  void next_dead_list();
  void take_dead(VolumeId list, const BlockPointer& pointer);
  void volume_done();
  void other_zombies();

  // ---- files (checker_files.cc) ----
  struct ImageView;
  // An inode of the live volume at hand.
  struct Seen {
    filesystem::FileType type = filesystem::FileType::none;
    bool held = false;  // by a LUN or by the administrator: a link without a name
    std::uint32_t links = 0;
    std::uint32_t names = 0;        // found
    std::uint32_t directories = 0;  // found in this one
    std::uint64_t entries = 0;
  };
  void check_files();
  void next_live_volume();
  void look_at_inodes(std::uint64_t number, Bytes block);
  std::string text_of(InodeNumber file) const;
  Seen* seen(InodeNumber file);
  void next_directory();
  void read_directory(FileKey directory, std::uint64_t from);
  void look_up(std::vector<BlockPointer> blocks, Then then);
  void compare_links();
  void check_luns();
  void check_parity();

  ports::Scheduler& scheduler_;
  Pool& pool_;
  Options options_;
  ports::Done<CheckReport> done_;
  CheckReport report_;
  bool running_ = false;
  bool stopped_ = false;
  std::weak_ptr<Pool::Session> session_;
  std::shared_ptr<Era> era_;  // keeps what the superblock refers to
  Superblock superblock_;
  SpaceMap shape_;
  std::vector<raid::BlockAddress> map_begin_;  // first block of each map block

  // The walk under way.
  Walk how_;
  Then walked_;
  std::vector<Item> stack_;
  struct Batch {
    std::vector<Item> items;
    std::vector<std::pair<int, int>> slots;  // of each item: number in `pointers` of a, b; -1: none
    std::vector<BlockPointer> pointers;
    std::vector<int> item_of;  // of each pointer
    std::vector<bool> bad;
    OwnedBuffer buffer;
  };
  Batch batch_;
  bool incomplete_ = false;  // something could not be read: what is below it looks lost

  // What births the present walk expects, and to whom blocks belong.
  Generation floor_ = 0;   // blocks that are not younger are somebody else's
  Generation before_ = 0;  // birth of image a; 0: there is none
  Generation newest_ = 0;  // no block is younger
  bool gives_up_ = false;  // zombies: what image a may have is expected to have left b

  // Space.
  BlockSet used_;     // as the maps say
  BlockSet reached_;  // as found
  std::vector<std::uint32_t> map_used_;
  std::vector<std::pair<Item, BlockPointer>> unmarked_;  // found before the maps were known
  bool maps_known_ = false;

  // The pool's own files.
  std::map<InodeNumber, Inode> own_;
  std::map<VolumeId, Volume> volumes_;
  std::map<LunNumber, LunEntry> luns_;
  std::map<FileKey, std::string> lun_names_;
  std::map<std::uint64_t, std::vector<std::byte>> zombie_blocks_;
  std::vector<Zombie> zombies_;

  // The volume at hand.
  std::vector<VolumeId> families_;    // live volumes to go
  std::vector<VolumeId> images_;      // of the volume: snapshots that stay, and itself
  std::size_t image_ = 0;             // b
  std::vector<Zombie> zombies_left_;  // of this pair of images
  std::vector<VolumeId> lists_left_;
  Generation shown_by_deleting_ = 0;  // of snapshots that go between a and b, the youngest
  BlockSet left_;                     // in a and not in b
  std::uint64_t left_fingerprint_ = 0;
  bool pair_broken_ = false;
  std::uint64_t family_blocks_ = 0;

  // Files of a live volume.
  std::vector<VolumeId> live_left_;
  VolumeId live_;
  std::map<std::uint64_t, std::array<Seen, filesystem::inodes_per_block>> seen_;  // by block
  std::vector<std::pair<InodeNumber, InodeNumber>> attributes_;  // of the first, the second
  std::set<LunNumber> luns_found_;
  std::deque<FileKey> directories_;
  std::uint64_t names_ = 0;  // of the directory at hand
  std::shared_ptr<ImageView> view_;
};

}  // namespace duet::pool
