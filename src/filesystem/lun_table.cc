#include "filesystem/lun_table.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace duet::filesystem {
namespace {

constexpr std::uint64_t max_luns_created = (1u << 24) - 1;  // their number is part of the NAA

std::size_t extents_for(std::uint64_t size, std::uint32_t extent_size) {
  return (size + extent_size - 1) / extent_size;
}

}  // namespace

LunTable::LunTable(const Superblock& superblock, std::vector<LunEntry> luns)
    : geometry_(superblock.geometry), luns_created_(superblock.luns_created) {
  for (const PoolMember& member : geometry_.disks) {
    disks_.push_back({std::vector<bool>(member.extents), member.extents, 0});
    free_extents_ += member.extents;
  }
  for (LunEntry& entry : luns) {
    auto lun = std::make_shared<Lun>();
    static_cast<LunEntry&>(*lun) = std::move(entry);
    lun->instance = LunInstance(++last_instance_);
    for (const ExtentPlace& place : lun->extents) {
      disks_[place.disk].used[place.extent] = true;
      --disks_[place.disk].free;
      --free_extents_;
    }
    luns_.emplace(lun->info.number, std::move(lun));
  }
}

Lun* LunTable::find(LunNumber number) const {
  auto found = luns_.find(number);
  return found == luns_.end() ? nullptr : found->second.get();
}

std::size_t LunTable::table_size() const {
  std::size_t size = table_header_size();
  for (const auto& [number, lun] : luns_) size += table_entry_size(lun->info, lun->extents.size());
  return size;
}

Result<LunCreateRecord> LunTable::prepare_create(const std::string& name,
                                                 std::uint64_t size) const {
  if (size == 0 || size > max_lun_size) {
    return fail(ErrorCode::invalid, "a LUN has 1 to " + std::to_string(max_lun_size) + " bytes");
  }
  LunCreateRecord record;
  record.name = name;
  record.size = (size + block_size - 1) / block_size * block_size;
  for (const auto& [number, lun] : luns_) {
    if (number != record.lun) break;
    record.lun = record.lun.next();
  }
  if (record.lun.value() > max_lun_number || luns_created_ >= max_luns_created) {
    return fail(ErrorCode::no_space, "the pool has no room for another LUN");
  }
  // Unique in the pool, and with the random pool id in the world; the same on whichever node
  // serves.
  std::uint64_t created = luns_created_ + 1;
  Bytes id = std::as_bytes(std::span(geometry_.pool));
  std::array<std::byte, 3> count{static_cast<std::byte>(created >> 16),
                                 static_cast<std::byte>(created >> 8),
                                 static_cast<std::byte>(created)};
  record.serial = to_hex(id.first(8)) + to_hex(count);
  record.naa = std::uint64_t{3} << 60 | load_be<std::uint64_t>(id.data()) >> 28 << 24 | created;
  if (auto status = check_create(record); !status) return std::unexpected(status.error());
  return record;
}

Status LunTable::check_create(const LunCreateRecord& record) const {
  if (!valid_lun_name(record.name)) {
    return fail(ErrorCode::invalid, "a LUN name has 1 to 63 characters a-z A-Z 0-9 . _ -");
  }
  for (const auto& [number, lun] : luns_) {
    if (lun->info.name == record.name || number == record.lun) {
      return fail(ErrorCode::already_exists, "LUN " + lun->info.name + " exists");
    }
  }
  std::size_t extents = extents_for(record.size, geometry_.extent_size);
  if (extents > free_extents_) {
    return fail(ErrorCode::no_space,
                "LUN " + record.name + " needs " +
                    std::to_string(std::uint64_t{extents} * geometry_.extent_size) + " bytes, " +
                    std::to_string(std::uint64_t{free_extents_} * geometry_.extent_size) +
                    " are free");
  }
  LunInfo info{record.lun, record.name, record.size, record.serial, record.naa, {}, {}};
  // Room for a reason stays, so that any LUN can always be taken offline.
  std::size_t reasons = (luns_.size() + 1) * max_offline_reason;
  if (table_size() + table_entry_size(info, extents) + reasons > geometry_.table_slot_size) {
    return fail(ErrorCode::no_space, "the pool's LUN table is full");
  }
  return {};
}

void LunTable::create(const LunCreateRecord& record) {
  auto lun = std::make_shared<Lun>();
  lun->info = {record.lun, record.name, record.size, record.serial, record.naa, {}, {}};
  lun->extents = allocate(extents_for(record.size, geometry_.extent_size), record.lun.value());
  lun->instance = LunInstance(++last_instance_);
  luns_.emplace(record.lun, std::move(lun));
  ++luns_created_;
  changed_ = true;
}

void LunTable::remove(LunNumber number) {
  auto found = luns_.find(number);
  ASSERT(found != luns_.end());
  const auto& extents = found->second->extents;
  freed_.insert(freed_.end(), extents.begin(), extents.end());
  luns_.erase(found);
  changed_ = true;
}

Status LunTable::check_reservations(const ReservationsRecord& record) const {
  Lun* lun = find(record.lun);
  if (lun == nullptr) {
    return fail(ErrorCode::not_found, "LUN " + std::to_string(record.lun.value()) + " unknown");
  }
  std::size_t size = table_size() - lun->info.reservations.size() + record.state.size();
  if (size + luns_.size() * max_offline_reason > geometry_.table_slot_size) {
    return fail(ErrorCode::no_space, "the pool's LUN table is full");
  }
  return {};
}

void LunTable::set_reservations(const ReservationsRecord& record) {
  find(record.lun)->info.reservations = record.state;
  changed_ = true;
}

void LunTable::take_offline(LunNumber number, const std::string& why) {
  LunInfo& info = find(number)->info;
  if (!info.offline.empty()) return;  // the first reason is the one to repair
  info.offline = why.substr(0, max_offline_reason);
  changed_ = true;
}

void LunTable::release(const std::vector<ExtentPlace>& extents) {
  for (const ExtentPlace& place : extents) {
    DiskSpace& space = disks_[place.disk];
    ASSERT(space.used[place.extent]);
    space.used[place.extent] = false;
    ++space.free;
    ++free_extents_;
    space.hint = std::min(space.hint, place.extent);
  }
}

ExtentPlace LunTable::take_extent(std::size_t disk) {
  DiskSpace& space = disks_[disk];
  while (space.used[space.hint]) ++space.hint;
  space.used[space.hint] = true;
  --space.free;
  --free_extents_;
  return {static_cast<std::uint16_t>(disk), space.hint++, 0};
}

std::vector<ExtentPlace> LunTable::allocate(std::size_t count, std::size_t first_disk) {
  ASSERT(count <= free_extents_);
  std::vector<ExtentPlace> places;
  places.reserve(count);
  for (std::size_t disk = first_disk % disks_.size(); places.size() < count;
       disk = (disk + 1) % disks_.size()) {
    if (disks_[disk].free > 0) places.push_back(take_extent(disk));
  }
  return places;
}

std::vector<std::byte> LunTable::encode(const Superblock& superblock) const {
  std::vector<const LunEntry*> entries;
  for (const auto& [number, lun] : luns_) entries.push_back(lun.get());
  return encode_lun_table(superblock, entries);
}

}  // namespace duet::filesystem
