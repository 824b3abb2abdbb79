// The LUNs of a pool in memory, with everything applied, and the extents they occupy. Pure state:
// no I/O. Extents of a deleted LUN become free only when a consistency point no longer knows the
// LUN: until then a crash brings it back.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "filesystem/dirty_cache.h"
#include "filesystem/pool_format.h"

namespace duet::filesystem {

struct Lun : LunEntry {
  LunInstance instance;
};

class LunTable {
 public:
  LunTable() = default;
  // Requires: from decode_lun_table.
  LunTable(const Superblock& superblock, std::vector<LunEntry> luns);

  const std::map<LunNumber, std::shared_ptr<Lun>>& all() const { return luns_; }
  Lun* find(LunNumber number) const;  // null: none
  std::size_t free_extents() const { return free_extents_; }
  std::uint64_t luns_created() const { return luns_created_; }
  std::size_t table_size() const;  // bytes if written now

  // What Storage::prepare_create and admit say; the record that check_create accepts, create takes.
  Result<LunCreateRecord> prepare_create(const std::string& name, std::uint64_t size) const;
  Status check_create(const LunCreateRecord& record) const;
  void create(const LunCreateRecord& record);
  void remove(LunNumber number);
  Status check_reservations(const ReservationsRecord& record) const;
  void set_reservations(const ReservationsRecord& record);
  void take_offline(LunNumber number, const std::string& why);

  // Changed since the last call; what the next consistency point writes.
  bool take_changed() { return std::exchange(changed_, false); }
  bool changed() const { return changed_; }
  // Extents that deletions gave up since the last call; release() makes them free.
  std::vector<ExtentPlace> take_freed() { return std::exchange(freed_, {}); }
  void release(const std::vector<ExtentPlace>& extents);
  std::vector<std::byte> encode(const Superblock& superblock) const;

 private:
  struct DiskSpace {
    std::vector<bool> used;
    std::uint32_t free = 0;
    std::uint32_t hint = 0;  // nothing free below
  };
  std::vector<ExtentPlace> allocate(std::size_t count, std::size_t first_disk);
  ExtentPlace take_extent(std::size_t disk);

  PoolGeometry geometry_;
  std::map<LunNumber, std::shared_ptr<Lun>> luns_;
  std::vector<DiskSpace> disks_;
  std::size_t free_extents_ = 0;
  std::uint64_t luns_created_ = 0;
  std::uint32_t last_instance_ = 0;
  bool changed_ = false;
  std::vector<ExtentPlace> freed_;
};

}  // namespace duet::filesystem
