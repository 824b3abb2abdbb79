#include "ha/absence.h"

#include <algorithm>
#include <map>
#include <set>

namespace duet::ha {

bool contains(const DiskSet& set, std::uint8_t disk) {
  return std::ranges::binary_search(set, disk);
}

void add(DiskSet& set, std::uint8_t disk) {
  if (!contains(set, disk)) set.insert(std::ranges::upper_bound(set, disk), disk);
}

//  in this order:
//  nothing is absent                                        yes
//  half of the mailbox disks or more                        no
//  a disk that is there has no label, or labels contradict  no
//  no data disk of the pool is missing: spares              yes
//  a group misses more than it bears; a missing disk whose  no
//  group is not known counts for every group
bool bears(const Places& places, const DiskSet& absent, std::uint8_t mailboxes) {
  if (absent.empty()) return true;
  auto away = std::ranges::count_if(absent, [&](auto disk) { return disk < mailboxes; });
  if (away > mailboxes - (mailboxes / 2 + 1)) return false;
  struct Group {
    std::set<std::uint16_t> positions;
    std::uint8_t redundancy = disk::max_redundancy;
  };
  std::map<std::uint16_t, Group> groups;
  std::size_t present = 0;
  std::optional<std::uint16_t> in_pool;
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (contains(absent, static_cast<std::uint8_t>(i))) continue;
    if (!places[i]) return false;
    const auto& place = *places[i];
    if (!place.data) continue;
    if (in_pool && *in_pool != place.disks_in_pool) return false;
    in_pool = place.disks_in_pool;
    auto& group = groups[place.group];
    if (!group.positions.insert(place.position).second) return false;
    group.redundancy = std::min(group.redundancy, place.redundancy);
    ++present;
  }
  if (!in_pool || present > *in_pool) return false;
  std::size_t missing = *in_pool - present;
  if (missing > absent.size()) return false;
  if (missing == 0) return true;
  std::size_t placed = 0;
  auto gaps = [](const Group& g) { return *g.positions.rbegin() + 1U - g.positions.size(); };
  for (const auto& [number, group] : groups) placed += gaps(group);
  if (placed > missing) return false;
  return std::ranges::all_of(groups, [&](const auto& entry) {
    return gaps(entry.second) + (missing - placed) <= entry.second.redundancy;
  });
}

LabelReader::LabelReader(const Config& config) : cluster_(config.cluster) {
  for (auto identity : {NodeId(1), NodeId(2)}) {
    for (std::uint8_t i = 0; i < config.disks(identity); ++i) {
      Disk disk;
      disk.ref = {identity, i};
      disks_.push_back(std::move(disk));
    }
  }
}

void LabelReader::on_time(const std::array<std::vector<bool>, 3>& connected,
                          std::array<Places, 3>& places, Output& out) {
  if (next_ > out.now()) return;
  next_ = never;
  for (auto& disk : disks_) {
    bool there = connected[disk.ref.identity.value()][disk.ref.index];
    if (std::exchange(disk.connected, there) != there) {
      disk = {.ref = disk.ref, .connected = there, .open = {}, .copies = {}, .due = out.now()};
      places[disk.ref.identity.value()][disk.ref.index].reset();
    }
    if (!there) continue;
    if (disk.due <= out.now() && !disk.open[0] && !disk.open[1]) {
      disk.due = out.now() + unknown_retry;
      for (int copy : {0, 1}) {
        auto at = static_cast<std::size_t>(copy);
        disk.copies[at].reset();
        disk.open[at] = out.disk(disk.ref, ReadBlock{disk::label_copy(copy).offset});
      }
    }
    if (!disk.open[0] && !disk.open[1]) next_ = std::min(next_, disk.due);
  }
}

// What cannot be read says nothing new; what can be read and is no label of ours has no place.
bool LabelReader::on_completed(const DiskCompleted& event, std::array<Places, 3>& places) {
  for (auto& disk : disks_) {
    for (std::size_t copy = 0; copy < 2; ++copy) {
      if (disk.open[copy] != event.command) continue;
      disk.open[copy].reset();
      if (event.reply) {
        auto* bytes = std::get_if<std::vector<std::byte>>(&*event.reply);
        if (bytes != nullptr) disk.copies[copy] = *bytes;
      }
      if (disk.open[0] || disk.open[1]) return true;
      if (disk.copies[0] && disk.copies[1]) {
        places[disk.ref.identity.value()][disk.ref.index] = place(disk);
        disk.due += label_interval - unknown_retry;  // else soon: the partner may have kept us out
      }
      next_ = std::min(next_, disk.due);
      return true;
    }
  }
  return false;
}

std::optional<Place> LabelReader::place(const Disk& d) const {
  auto chosen = disk::choose_label(*d.copies[0], *d.copies[1]);
  if (!chosen) return {};
  const auto& label = chosen->label;
  if (label.cluster != cluster_ || label.owner != d.ref.identity) return {};
  return place_of(label);
}

Place place_of(const disk::Label& label) {
  return {.data = label.role == disk::Role::data,
          .group = label.raid_group,
          .position = label.position,
          .disks_in_pool = label.disks_in_pool,
          .redundancy = label.redundancy,
          .dedicated = label.role == disk::Role::coredump,
          .id = label.id};
}

}  // namespace duet::ha
