// The storage of one identity: a write-anywhere file system over RAID groups. Nothing that a
// superblock refers to is ever overwritten; a consistency point writes everything that changed to
// free blocks, and then one superblock makes all of it true at once (docs/protocols/
// consistency_point.md, docs/formats/pool.md).
//
// It keeps what the log says (Storage: LUNs; View: files), reads from memory or disks, and makes
// consistency points. Volumes and snapshots are made and removed by consistency points themselves
// and need no log. Single-threaded.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "disk/areas.h"
#include "disk/label.h"
#include "filesystem/storage.h"
#include "filesystem/view.h"
#include "pool/block_cache.h"
#include "pool/file.h"
#include "pool/resident_tree.h"
#include "pool/space_map.h"
#include "pool/superblock.h"
#include "pool/volume.h"
#include "raid/array.h"

namespace duet::pool {

using filesystem::LogPosition;
using filesystem::LogRecord;
using filesystem::LunInfo;
using filesystem::StorageState;

class Flush;

// A subtree that no file has any more, and whose blocks are given up little by little.
struct Zombie {
  BlockPointer pointer;
  std::uint8_t level = 0;
  bool inodes = false;  // level 0 holds inodes, whose files go, too
  bool prune = false;   // what is younger than `keep` is free; else snapshots may have it
  VolumeId volume;
  Generation keep = 0;      // blocks that are not younger are somebody else's
  Generation detached = 0;  // in this consistency point
  bool operator==(const Zombie&) const = default;
};

// What the pool knows of one volume or snapshot, for people.
struct VolumeReport {
  VolumeId id;
  VolumeId parent;
  VolumeKind kind = VolumeKind::none;
  bool deleting = false;
  std::string name;
  std::uint64_t used = 0;         // bytes, its snapshots included
  std::uint64_t quota = 0;        // bytes; 0: none
  std::uint64_t reservation = 0;  // bytes
  std::int64_t created = 0;       // ns since 1970
  std::uint32_t clones = 0;
};

class Pool final : public filesystem::Storage, public filesystem::View {
 public:
  struct Disk {
    ports::Disk* disk = nullptr;  // outlives the pool
    DiskId id;
    disk::Area data;
  };
  struct Options {
    disk::PoolId pool{};
    std::vector<Disk> disks;                   // at hand, in any order
    std::uint64_t dirty_limit = 256ull << 20;  // bytes
    std::uint64_t read_cache = 64ull << 20;    // bytes, data
    // Bytes: a quarter for map blocks, the rest for indirect blocks, inodes and directories. What
    // the point under way changes comes on top.
    std::uint64_t metadata_cache = 64ull << 20;
    Duration retry_delay = milliseconds(200);  // after something that failed on the disks
    // What was changed is on the disks, or on the way there, after this long at most; 0: never by
    // time.
    Duration point_age = seconds(10);
    raid::Array::Options raid;  // its disks and layout are set by the pool
    // Keeps a stripe journal record in both NVRAMs (raid::Array::Owner::journal); may be empty.
    std::function<void(DataBytes, ports::Done<void>)> journal;
    // raid::Array::Owner::claim and spare_missed; may be empty.
    std::function<void(const raid::Array::Disk&, ports::Done<void>)> claim;
    std::function<void(DiskId)> spare_missed;
  };
  static constexpr std::uint64_t cached_read_max = 64 << 10;  // larger reads only sweep the cache
  static constexpr std::size_t files_max = 1 << 16;           // clean ones in memory
  static constexpr VolumeId first_volume{1};
  // A member that failed and whose disk is here takes its place again after this long; twice as
  // long after every time that it failed again, but not longer than the second.
  static constexpr Duration rejoin_wait = seconds(5);
  static constexpr Duration rejoin_wait_max = std::chrono::minutes(10);
  static constexpr std::size_t volumes_max = 65536;  // and snapshots

  Pool(ports::Scheduler& scheduler, Options options);
  ~Pool() override;

  // ---- filesystem::Storage ----
  StorageState state() const override { return state_; }
  void open(ports::Done<void> done) override;
  void activate(Epoch epoch, ports::Done<void> done) override;
  void on_stripe_records(StripeRecords callback) override { stripe_records_ = std::move(callback); }
  void deactivate(ports::Done<void> done) override;
  void close() override;
  std::vector<LunInfo> luns() const override;
  const LunInfo* find(LunNumber lun) const override;
  filesystem::Capacity capacity() const override;
  Result<LogRecord> prepare_create(const std::string& name, std::uint64_t size,
                                   bool reserve = false) const override;
  Status admit(const LogRecord& record) const override;
  Status apply(const LogPosition& position, const LogRecord& record) override;
  void skip(const LogPosition& position) override;
  void read(LunNumber lun, std::uint64_t offset, std::uint64_t length,
            ports::Done<std::vector<Slice>> done) override;
  void start_consistency_point() override;
  bool needs_consistency_point() const override;
  bool consistency_point_under_way() const { return flush_ != nullptr; }
  std::uint64_t dirty_bytes() const override;
  std::uint64_t dirty_limit() const override { return options_.dirty_limit; }
  LogPosition position() const override { return superblock_.position; }
  void on_consistency_point(std::function<void(const LogPosition&)> callback) override;
  void on_fenced(std::function<void(const std::string&)> callback) override;
  void on_health(std::function<void(const std::string&)> callback) override;
  const std::string& health() const override { return health_; }

  // ---- filesystem::View: files, for operations run by run() ----
  Result<Inode> inode(FileKey file) override;
  Result<Bytes> block(FileKey file, std::uint64_t number) override;
  Result<std::uint64_t> next_block(FileKey file, std::uint64_t from) override;
  Status space(VolumeId volume, std::uint64_t blocks) override;
  Result<InodeNumber> next_inode(VolumeId volume) override;
  InodeNumber allocate_inode(VolumeId volume) override;
  void set_inode(FileKey file, const Inode& inode) override;
  MutableBytes change_block(FileKey file, std::uint64_t number) override;
  void write(FileKey file, std::uint64_t offset, const std::vector<Slice>& data) override;
  void zero(FileKey file, std::uint64_t offset, std::uint64_t length) override;

  // Runs `operation` as often as something was missing in memory; `done` with its last result. Runs
  // it at least once from inside the call.
  void run(std::function<Status(filesystem::View&)> operation, ports::Done<void> done);
  // Asked by an operation: something that it looked at is not in memory, so it will be run again.
  bool lacks_something() const { return !missing_.empty(); }
  // Bytes of a file as of now; beyond the last block that was written: zeros. Multiples of
  // sector_size.
  // `look`, if given, is called in the turn whose bytes are read, with the inode as of then; what
  // it refuses ends the read.
  using Look = std::function<Status(const Inode&)>;
  void read_file(FileKey file, std::uint64_t offset, std::uint64_t length,
                 ports::Done<std::vector<Slice>> done, Look look = {});
  // The last record in memory.
  const LogPosition& applied() const { return applied_; }

  // ---- volumes and snapshots ----
  // All of them are done when a consistency point that holds them is on the disks. Errors: refused,
  // not_found, already_exists, invalid, cancelled.
  std::vector<VolumeReport> volumes() const;
  std::optional<VolumeReport> find_volume(VolumeId volume) const;
  void create_volume(const std::string& name, ports::Done<VolumeId> done);
  // Refused while it has snapshots or LUNs.
  void delete_volume(VolumeId volume, ports::Done<void> done);
  // Everything that was applied before the call is in it.
  void create_snapshot(VolumeId volume, const std::string& name, std::int64_t now,
                       ports::Done<VolumeId> done);
  void delete_snapshot(VolumeId snapshot, ports::Done<void> done);
  void create_clone(VolumeId snapshot, const std::string& name, ports::Done<VolumeId> done);
  // A LUN of this name, and the volume of this name that holds it, a clone of the snapshot: `lun`
  // as the snapshot shows it, with an identity of its own. Both come in one consistency point.
  void clone_lun(LunNumber lun, VolumeId snapshot, const std::string& name,
                 ports::Done<LunNumber> done);
  std::optional<VolumeId> volume_of(LunNumber lun) const;
  // The volume becomes what its newest snapshot shows, its LUNs too: those made since go, those
  // deleted since come back. Everything since is gone. Requires: nobody uses its LUNs.
  void restore(VolumeId volume, VolumeId snapshot, ports::Done<void> done);
  // The LUN becomes what a snapshot of its volume shows, in place; nothing else changes. In the
  // background; offline until it is done, and if that fails, until it has been done again.
  // Requires: nobody uses the LUN.
  void restore_lun(LunNumber lun, VolumeId snapshot, ports::Done<void> done);
  void set_limits(VolumeId volume, std::uint64_t quota, std::uint64_t reservation,
                  ports::Done<void> done);  // bytes

  // ---- RAID ----
  raid::Array* array() { return array_.get(); }  // null: closed
  // What disks had in their caches may be lost: the consistency point under way writes it again.
  void disks_were_reset() override;
  void disk_returned(ports::Disk& disk, DiskId id, disk::Area data) override;
  // Done when a consistency point is on the disks that has everything up to now, the RAID layout
  // included. Errors: refused, busy (too many wait), cancelled.
  void when_on_disk(ports::Done<void> done);
  const disk::PoolId& id() const { return options_.pool; }

  // ---- figures ----
  struct Figures {
    std::uint64_t consistency_points = 0;
    std::uint64_t blocks_written = 0;  // by consistency points, without parity
    std::uint64_t data_blocks = 0;     // of them, of files of volumes
  };
  const Figures& figures() const { return figures_; }
  // Bytes of metadata that could be read again from the disks.
  std::uint64_t metadata_in_memory() const {
    return metadata_.size() * block_size + space_.in_memory() * SpaceMap::bytes_in_memory;
  }

 private:
  friend class Flush;
  friend class Checker;
  friend class LogReplay;
  struct Session {};  // from open to close; who holds it weakly learns that it is over
  struct Loading;
  struct Reading;
  struct Running;
  struct Restore;
  struct LunRestore;
  struct Lun {
    LunInfo info;
    std::shared_ptr<File> file;
  };
  // Blocks that an operation needs and the cache might forget meanwhile.
  using Pins = std::unordered_map<std::uint64_t, Slice>;
  // A change of volumes, made when a consistency point begins. Its result goes to `done` when that
  // is on the disks.
  struct Order {
    std::function<Status(Flush&)> make;
    ports::Done<void> done;
  };
  static constexpr std::size_t orders_max = 256;

  // open
  static bool was_closed(Loading& loading);
  void load(std::shared_ptr<Loading> loading);
  void read_superblocks(std::shared_ptr<Loading> loading);
  Status check_newest(const Loading& loading) const;
  Status check_disks(const raid::Layout& layout) const;
  void make_array(const Superblock& superblock);
  void load_trees(std::shared_ptr<Loading> loading);
  void load_tables(std::shared_ptr<Loading> loading);
  Status read_inodes(std::vector<std::pair<std::uint64_t, BlockPointer>> blocks);
  Status read_counts();
  Status read_volumes();
  Status read_luns();
  Status read_zombies();
  void loaded(const std::shared_ptr<Loading>& loading, Status status);
  void forget();
  bool lacks_a_member() const;
  void make_root_directories();
  void make_root_directory(VolumeId volume);

  // memory
  Slice cached(const BlockPointer& pointer);
  void fetch(std::vector<BlockPointer> blocks, std::shared_ptr<Pins> pins, ports::Done<void> done);
  Result<BlockPointer> resolve(const TreeRoot& root, std::uint64_t block);
  // The first block from `from` on that is no hole, or `end`.
  Result<std::uint64_t> next_in_tree(const TreeRoot& root, std::uint64_t from, std::uint64_t end);
  Result<File*> file(FileKey key);
  Result<Slice> block_now(File& file, std::uint64_t number);
  File& changed_file(FileKey key);
  template <class Change>
  void change_data(FileKey key, Change change);
  void run_again(const std::shared_ptr<Running>& running);
  void forget_clean_files();

  // LUNs
  Lun* lun_of(LunNumber number);
  const Lun* lun_of(LunNumber number) const;
  Status check(const filesystem::Record& record) const;
  void change(const filesystem::Record& record);
  Status poison(const LogRecord& record, const Error& error);
  FileKey catalogue();
  void keep_lun(const Lun& lun, bool reservations);
  Status check_read(LunNumber lun, std::uint64_t offset, std::uint64_t length) const;
  Result<LunNumber> free_lun() const;
  void give_identity(filesystem::LunCreateRecord& record) const;
  void note_created(std::uint64_t naa);
  Status make_lun_clone(Flush& flush, LunNumber lun, VolumeId snapshot, const Inode& inode,
                        const std::string& name, LunNumber& made);
  // restore
  void find_vdisks(const std::shared_ptr<Restore>& restore);
  Status find_vdisks(Restore& restore, std::uint64_t& next);
  Status take_back(Flush& flush, const Restore& restore);
  Result<std::map<LunNumber, Lun>> returning_luns(const Restore& restore) const;
  void take_luns_back(const Restore& restore, std::map<LunNumber, Lun> returning);
  Result<std::uint64_t> next_difference(const TreeRoot& a, const TreeRoot& b, std::uint64_t from,
                                        std::uint64_t end);
  static bool still_open(LunRestore& restore);
  Status take_offline(Flush& flush, LunRestore& restore, const Inode& shown);
  Lun* restored(const LunRestore& restore);
  void find_differences(const std::shared_ptr<LunRestore>& restore);
  void read_differences(const std::shared_ptr<LunRestore>& restore);
  void copy_differences(const std::shared_ptr<LunRestore>& restore, const OwnedBuffer& buffer,
                        int refusals);
  void bring_online(const std::shared_ptr<LunRestore>& restore);
  void end_restore(const std::shared_ptr<LunRestore>& restore, Status status);

  // space
  struct Kept {                // blocks that only this volume may have
    std::uint64_t luns = 0;    // its reserved LUNs
    std::uint64_t volume = 0;  // on top of that
    bool any = false;          // something is reserved at all
    std::uint64_t sum() const { return luns + volume; }
    bool operator==(const Kept&) const = default;
  };
  struct Waiting {  // blocks
    std::uint64_t dirty = 0;
    std::uint64_t flushing = 0;
  };
  std::uint64_t free_space() const;
  std::uint64_t reserved_space() const;  // blocks that the next consistency point needs at most
  bool space_settled() const;            // nothing that was released waits to become free
  std::set<VolumeId> reserving() const;
  Kept kept_by(VolumeId volume, bool shown) const;  // `shown`: as if it had a snapshot
  void keep_anew(VolumeId volume);
  void keep_all_anew();
  std::uint64_t kept_space() const;   // all of it
  bool keeps_what_it_should() const;  // a walk says the same as what was kept up to date
  std::uint64_t kept_from(VolumeId volume, bool reserved_lun) const;
  std::unexpected<Error> no_room(const std::string& why) const;
  Status room_in_memory(std::uint64_t blocks) const;
  Status room_in_quota(VolumeId volume, std::uint64_t added) const;
  Status room_on_disks(std::uint64_t blocks, std::uint64_t kept) const;
  Status room_for_lun(const Lun& lun, std::uint64_t blocks) const;
  Status admit_reservation(const filesystem::LunCreateRecord& record) const;
  Status admit_limits(const Volume& volume, std::uint64_t quota, std::uint64_t reservation) const;
  Status admit_snapshot(VolumeId volume) const;

  // reading
  void read_more(const std::shared_ptr<Reading>& reading);
  static void finish_reading(const std::shared_ptr<Reading>& reading);

  // consistency points
  void begin_flush();
  void flush_done();
  void note_change();  // something waits for the next point
  void forget_age();
  void finish_deactivation();
  bool clean() const;
  bool background_work() const;
  void settle_later(std::vector<raid::BlockAddress> released);
  void forget_maps();
  // The pool is damaged, or memory is wrong: nothing more is written.
  void give_up_on(const std::string& why);

  void watch_members();
  void rejoin_members();
  void fence(const std::string& why);
  std::string lasting_health() const;
  std::string raid_health() const;
  void set_health(std::string health);
  template <class T>
  void fail_later(ports::Done<T>& done, Error error);
  void order(std::function<Status(Flush&)> make, ports::Done<void> done);

  ports::Scheduler& scheduler_;
  Options options_;
  StorageState state_ = StorageState::closed;
  std::shared_ptr<Session> session_;
  std::unique_ptr<raid::Array> array_;
  StripeRecords stripe_records_;

  Superblock superblock_;  // the last one on the disks
  LogPosition applied_;    // the last record in memory
  Epoch epoch_;
  ResidentTree maps_;
  ResidentTree counts_;
  ResidentTree inodes_;
  SpaceMap space_;
  std::map<FileKey, std::shared_ptr<File>> files_;  // of the pool itself: all
  std::size_t forget_above_ = files_max;            // so many of them: the clean ones are forgotten
  std::set<FileKey> changed_;                       // files with something for the next point
  std::map<VolumeId, Volume> volumes_;
  std::set<VolumeId> changed_volumes_;
  // Volumes that the consistency point under way takes back or away: nobody may look until then.
  std::set<VolumeId> held_;
  // As it was when the consistency point under way began, where numbers were given since.
  std::map<VolumeId, std::uint64_t> next_inode_before_;
  std::map<LunNumber, Lun> luns_;
  std::map<LunNumber, Lun> coming_luns_;  // of the consistency point under way
  std::vector<LunNumber> going_luns_;     // the same
  std::set<LunNumber> restoring_;
  std::vector<Zombie> zombies_;
  std::uint64_t luns_created_ = 0;
  std::uint64_t next_inode_ = 16;  // of the pool's own files
  std::uint32_t next_volume_ = 2;
  std::uint64_t dirty_cost_ = 0;  // blocks that the changes for the next point will need
  std::uint64_t dirty_blocks_ = 0;
  std::uint64_t flushing_blocks_ = 0;
  std::uint64_t space_for_next_ = 0;  // blocks, while a point is under way: what it leaves
  std::map<VolumeId, Waiting> waiting_;
  std::map<VolumeId, std::uint32_t> snapshots_;  // how many a volume has, if any
  std::map<VolumeId, Kept> kept_;                // volumes with reservations, kept up to date
  std::uint64_t kept_sum_ = 0;

  BlockCache metadata_;
  BlockCache data_;
  Pins* pins_ = nullptr;               // of the operation that runs
  std::vector<BlockPointer> missing_;  // noted by it
  std::vector<Slice> shown_;           // keeps what block() has shown
  std::shared_ptr<Era> era_;
  std::shared_ptr<bool> space_token_;  // changes with space_
  std::uint64_t unsettled_ = 0;        // released blocks that wait for reads to end

  std::shared_ptr<Flush> flush_;
  std::deque<Order> orders_;
  bool again_ = false;
  ports::TimerId retry_;
  ports::TimerId age_;    // while something waits for the next point
  bool hurried_ = false;  // as much waits for it
  struct Rejoin {
    Instant due;
    Duration wait = rejoin_wait;
  };
  std::map<std::uint32_t, Rejoin> rejoins_;  // by member
  ports::TimerId rejoin_;                    // while a member has failed
  ports::Done<void> deactivated_;
  Figures figures_;
  std::string health_;
  std::function<void(const LogPosition&)> on_consistency_point_;
  std::function<void(const std::string&)> on_fenced_;
  std::function<void(const std::string&)> on_health_;
};

// Writes the metadata of a new pool on its disks; what was there before is lost. Durable when done.
// `disks`: those of the layout. Errors: invalid, no_space, those of the disks.
void format_pool(ports::Scheduler& scheduler, const disk::PoolId& pool,
                 std::vector<Pool::Disk> disks, const raid::Layout& layout, ports::Done<void> done);
// Members in the order of `disks`, data first, then parity, then spares: one group. Errors:
// no_space (a disk is too small), invalid.
Result<raid::Layout> plan_layout(const std::vector<Pool::Disk>& disks, raid::Protection protection,
                                 std::size_t spares);

}  // namespace duet::pool
