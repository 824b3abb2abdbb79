#include "ha/dump_watch.h"

#include <algorithm>

#include "base/coverage.h"
#include "ha/dump_header.h"
#include "ha/world.h"

namespace duet::ha {

using coredump::Take;
using coredump::Writer;

namespace {

// Of a spare its label does not tell whether RAID has taken it: the partner says which it has not.
bool may_carry_dump(const World& world, BootNonce victim, std::uint8_t disk) {
  auto partner = world.partner();
  const auto& place = world.places[partner.value()][disk];
  if (disk < world.config.mailbox_disks_of(partner) || !place || place->data ||
      !world.connected[partner.value()][disk]) {
    return false;
  }
  const auto& said = world.monitor.stable();
  return place->dedicated ||
         (said && said->nonce == victim && (said->free_spares >> disk & 1U) != 0);
}

}  // namespace

DiskSet DumpWatch::candidates(const World& world) {
  const auto& said = world.monitor.stable();
  DiskSet disks;
  for (std::uint8_t i = 0; said && i < world.config.disks(world.partner()); ++i) {
    if (may_carry_dump(world, said->nonce, i)) disks.push_back(i);
  }
  return disks;
}

DiskSet DumpWatch::begin(World& world, BootNonce victim, Output& out) {
  stop();
  if (boot_ != victim) disks_.clear(), panicked_.reset();
  boot_ = victim;
  identity_ = world.partner();
  if (!world.monitor.panicking(victim)) return {};
  if (!panicked_) panicked_ = out.now();
  DiskSet left;
  auto without = world.missing(identity_);
  for (std::uint8_t i = 0; i < world.config.disks(identity_); ++i) {
    if (!may_carry_dump(world, victim, i)) continue;
    left.push_back(i);
    add(without, i);
  }
  if (left.empty() || !world.bears(identity_, without)) return {};
  const auto& mailbox = *world.mailbox(identity_);
  const auto& said = world.monitor.stable();
  bool spoke = said && said->nonce == victim;
  coredump::FailedNode node{.cluster = world.config.cluster,
                            .node = identity_,
                            // Of a takeover that is resumed the mailbox bears our own epoch.
                            .epoch = mailbox.server == identity_ ? mailbox.epoch
                                     : spoke                     ? said->own_epoch
                                                                 : Epoch(0),
                            .boot_nonce = victim};
  for (auto i : left) {
    const DiskId& id = world.places[identity_.value()][i]->id;
    auto [it, fresh] = disks_.try_emplace(
        i, Disk{.id = id,
                .release = coredump::DiskRelease(id, node, world.config.dump_limits, *panicked_)});
    auto& disk = it->second;
    disk.watched = true;
    disk.looked = disk.needed = false;
    disk.take = Take::leave;
    disk.since = disk.look_at = out.now();
    disk.until = never;
    out.log(Severity::notice, "takeover.disk_left",
            "disk " + std::to_string(i) + " is left to the partner's dump");
  }
  MARK(dump_disks_left);
  return left;
}

void DumpWatch::stop() {
  for (auto& [index, disk] : disks_) {
    disk.watched = false;
    disk.take = Take::leave;
    disk.open = {};
  }
}

Writer DumpWatch::writer(const World& world, Instant now) const {
  const auto& said = world.monitor.stable();
  if (said && (said->nonce != boot_ || said->state == NodeState::halted)) return Writer::gone;
  if (world.monitor.interconnect(now) == Channel::silent) return Writer::silent;
  return Writer::panicking;
}

void DumpWatch::advance(const World& world, bool fence, Output& out) {
  auto now = out.now();
  for (auto& [index, disk] : disks_) {
    if (!disk.watched) {
      if (disk.fenced_by <= now) disk.fenced_by = never;
      continue;
    }
    if (!world.connected[identity_.value()][index]) {  // absent, like any other that is away
      MARK(dump_disk_lost);
      disk.watched = false;
      disk.take = Take::no_dump;
      disk.fenced_by = never;
      disk.open = {};
      continue;
    }
    if (disk.look_at <= now) {
      disk.look_at = now + look_interval;
      if (!disk.open[0] && !disk.open[1]) {
        disk.copies = {};
        for (int copy = 0; copy < coredump::header_copies; ++copy) {
          disk.open[static_cast<std::size_t>(copy)] =
              out.disk({identity_, index}, ReadBlock{coredump::header_copy(copy).offset});
        }
      }
    }
    auto decision = disk.release.may_take(writer(world, now), disk.needed, now);
    disk.until = decision.take == Take::leave ? decision.until : never;
    bool take = decision.take != Take::leave && (disk.looked || disk.needed);
    if (!take || !fence) continue;
    disk.watched = false;
    disk.take = decision.take;
    disk.fenced_by = now + fence_patience;
    disk.open = {};
    out.log(Severity::notice, "takeover.disk_taken",
            "disk " + std::to_string(index) + ", left to the partner's dump, is taken: " +
                std::string(coredump::name(decision.take)));
  }
}

bool DumpWatch::on_completed(const DiskCompleted& event, Output& out) {
  for (auto& [index, disk] : disks_) {
    for (std::size_t copy = 0; copy < disk.open.size(); ++copy) {
      if (disk.open[copy] != event.command) continue;
      disk.open[copy].reset();
      const auto* bytes =
          event.reply ? std::get_if<std::vector<std::byte>>(&*event.reply) : nullptr;
      if (bytes != nullptr) disk.copies[copy] = *bytes;
      if (disk.open[0] || disk.open[1]) return true;
      disk.looked = true;
      disk.release.on_header(header_of(disk.copies), out.now());
      return true;
    }
  }
  return false;
}

Instant DumpWatch::next_time() const {
  Instant next = never;
  for (const auto& [index, disk] : disks_) {
    if (disk.watched) next = std::min({next, disk.look_at, disk.until});
    if (!disk.watched && disk.take != Take::leave) next = std::min(next, disk.fenced_by);
  }
  return next;
}

void DumpWatch::needed(const DiskId& id) {
  auto it = std::ranges::find(disks_, id, [](const auto& entry) { return entry.second.id; });
  if (it == disks_.end()) return;
  MARK(dump_disk_needed);
  it->second.needed = true;
  // It may be on its way to us already.
  if (!it->second.watched && it->second.take != Take::leave) it->second.take = Take::needed;
}

void DumpWatch::need_all() {
  for (auto& [index, disk] : disks_) {
    if (disk.watched) disk.needed = true;
  }
}

bool DumpWatch::leaves(std::uint8_t index) const {
  auto it = disks_.find(index);
  return it != disks_.end() && it->second.watched;
}

bool DumpWatch::leaves_any() const {
  return std::ranges::any_of(disks_, [](const auto& entry) { return entry.second.watched; });
}

bool DumpWatch::busy() const {
  return std::ranges::any_of(disks_, [](const auto& entry) {
    const auto& disk = entry.second;
    return disk.watched || (disk.take != Take::leave && disk.fenced_by != never);
  });
}

std::optional<Take> DumpWatch::taken(std::uint8_t index) const {
  auto it = disks_.find(index);
  if (it == disks_.end() || it->second.watched || it->second.take == Take::leave) return {};
  return it->second.take;
}

std::vector<DumpWatch::Left> DumpWatch::left() const {
  std::vector<Left> all;
  for (const auto& [index, disk] : disks_) {
    if (disk.watched) all.push_back({index, disk.since, disk.until, disk.release.header()});
  }
  return all;
}

}  // namespace duet::ha
