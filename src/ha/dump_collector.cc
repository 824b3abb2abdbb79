#include "ha/dump_collector.h"

#include <algorithm>

#include "base/coverage.h"
#include "ha/world.h"

namespace duet::ha {

using coredump::Attribute;

namespace {

bool could_carry_dump(const World& world, DiskRef ref) {
  auto n = ref.identity.value();
  const auto& place = world.places[n][ref.index];
  return ref.index >= world.config.mailbox_disks_of(ref.identity) && place && !place->data &&
         world.connected[n][ref.index] && !contains(world.absent(ref.identity), ref.index);
}

}  // namespace

//  waiting --ours, served--> looking --a dump--> collecting --over, or no word for long--> over
//     ^ look_retry              | unreadable         |
//     +-------------------------+       no dump: over, until the identity is served again
void DumpCollector::advance(const World& world, const std::array<bool, 3>& served, Output& out) {
  for (auto identity : {NodeId(1), NodeId(2)}) {
    if (!served[identity.value()]) {
      cancel(identity, out);
      continue;
    }
    for (std::uint8_t i = 0; i < world.config.disks(identity); ++i) {
      DiskRef ref{identity, i};
      if (could_carry_dump(world, ref)) {
        look(ref, disks_[ref], world, out);
      } else if (auto it = disks_.find(ref);
                 it != disks_.end() && it->second.state == Disk::State::waiting) {
        disks_.erase(it);
      }
    }
  }
}

void DumpCollector::look(DiskRef ref, Disk& disk, const World& world, Output& out) {
  using enum Disk::State;
  auto now = out.now();
  switch (disk.state) {
    case waiting:
      if (disk.due > now) return;
      disk.header.emplace(
          ref, DumpHeader::Rules{.cluster = world.config.cluster,
                                 .disk = world.places[ref.identity.value()][ref.index]->id});
      disk.header->start(out);
      disk.state = looking;
      return;
    case looking:
      return settle(ref, disk, out);
    case collecting:
      if (disk.due > now) return;
      MARK(dump_collection_without_word);
      out.act(CancelCollect{ref});
      disk.state = over;
      return;
    case over:
      return;
  }
}

void DumpCollector::settle(DiskRef ref, Disk& disk, Output& out) {
  if (disk.header->outcome() == DumpHeader::Outcome::running) return;
  bool failed = disk.header->outcome() == DumpHeader::Outcome::failed;
  auto header = disk.header->header();
  disk.header.reset();
  if (failed) {
    disk.state = Disk::State::waiting;
    disk.due = out.now() + look_retry;
    return;
  }
  bool dump = header && header->node == ref.identity && header->attribute != Attribute::inactive;
  disk.state = dump ? Disk::State::collecting : Disk::State::over;
  if (!dump) return;
  MARK(dump_found);
  disk.due = out.now() + patience;
  disk.collection = {ref, out.now(), 0, header->stored};
  out.log(Severity::notice, "dump.collecting",
          "disk " + std::to_string(ref.index) + " of identity " +
              std::to_string(ref.identity.value()) + " carries a dump, " +
              std::string(coredump::name(header->attribute)));
  out.act(CollectDump{ref});
}

bool DumpCollector::on_completed(const DiskCompleted& event, Output& out) {
  return std::ranges::any_of(disks_, [&](auto& entry) {
    return entry.second.header && entry.second.header->on_completed(event, out);
  });
}

void DumpCollector::on_collection(const DumpCollection& event, Instant now) {
  auto it = disks_.find(event.disk);
  if (it == disks_.end() || it->second.state != Disk::State::collecting) return;
  it->second.due = now + patience;
  it->second.collection.done = event.bytes_done;
  it->second.collection.total = event.bytes_total;
  if (event.over) it->second.state = Disk::State::over;
}

void DumpCollector::cancel(NodeId identity, Output& out) {
  for (const auto& [ref, disk] : disks_) {
    if (ref.identity != identity || disk.state != Disk::State::collecting) continue;
    MARK(dump_collection_cancelled);
    out.act(CancelCollect{ref});
  }
  std::erase_if(disks_, [&](const auto& entry) { return entry.first.identity == identity; });
}

Instant DumpCollector::next_time() const {
  Instant next = never;
  for (const auto& [ref, disk] : disks_) {
    bool timed = disk.state == Disk::State::waiting || disk.state == Disk::State::collecting;
    if (timed) next = std::min(next, disk.due);
  }
  return next;
}

std::vector<DumpCollector::Collection> DumpCollector::collections(NodeId identity) const {
  std::vector<Collection> all;
  for (const auto& [ref, disk] : disks_) {
    if (ref.identity == identity && disk.state == Disk::State::collecting) {
      all.push_back(disk.collection);
    }
  }
  return all;
}

}  // namespace duet::ha
