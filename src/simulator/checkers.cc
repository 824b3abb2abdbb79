#include "simulator/checkers.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/coverage.h"
#include "disk/areas.h"
#include "disk/reservation_key.h"
#include "pool/superblock.h"
#include "simulator/sim_node.h"

namespace duet::simulator {
namespace {

constexpr Checker table[] = {
    {"I1", "no acknowledged write is lost while at most one node fails at a time",
     "final sweep over all blocks ever used, judged by the history"},
    {"I2", "at most one node answers for an identity and epoch, and no older one after it",
     "every byte a server hands to the network"},
    {"I3", "once fenced, no write of a node reaches a disk", "every write that lands on a medium"},
    {"I4", "what is acknowledged is in both NVRAMs, on disk, or the mailbox said otherwise first",
     "every acknowledged write: rings of both nodes, superblock, mailbox"},
    {"I5", "epochs and PRGENERATION never decrease",
     "mailboxes and superblocks that land, reservations of disks and LUNs"},
    {"I6", "the keys on every disk of a served identity are the serving node's only",
     "registered keys, every 20 ms"},
    {"I7", "a node with an unknown mailbox never serves", "every beginning of service"},
    {"I8", "replaying twice is replaying once",
     "every replay is rehearsed on copies of its disks, once in whole and once after one that was "
     "cut off; a repeated one must lead to what the first led to"},
    {"I9", "a record is replayed only if newer than the consistency point",
     "log positions of superblocks that land never go back"},
    {"I11",
     "a coredump writes only headers and room of a coredump disk of its own, and none that another "
     "holds",
     "every write that a supervisor whose engine stands still begins; every header and chunk of a "
     "dump that lands; with them C1, C2 and C8 of docs/protocols/coredump.md"},
    {"I11b", "a dump never delays a takeover (C3)",
     "service of a node whose engine stands still, while all but the coredump disks is in order"},
    {"I11c", "a disk that was left to a dump is taken in bounded time (C4)", "every 20 ms"},
    {"I12", "no data disk is ever without a reservation once its node has served", "every step"},
    {"I13", "the history of each block is linearizable, COMPARE AND WRITE included",
     "history, when nothing is under way on a block"},
    {"I14", "a COMPARE AND WRITE executes exactly once",
     "history: contradictions that a repetition explains"},
    {"I15", "reservations and identity of a LUN are equal before and after a failover",
     "model of the reservations against every answer; serial numbers after every login"},
    {"I16", "one node answers for an address", "listeners with a valid lease, every 20 ms"},
    {"I17", "nothing is given back to a node without progress",
     "mailbox writes of a giveback against the structure of the other node"},
    {"I18", "after faults stop, every identity is served again within a bound",
     "every client, at the end"},
};

NodeId writer_of(const scsi::Nexus& nexus) {
  return nexus.initiator_name == "red" ? NodeId(1) : NodeId(2);
}

// Calls `use` with each whole block of `area` that the write contains.
template <class Use>
void for_blocks(const SimUnit::Landed& landed, const disk::Area& area, Use use) {
  constexpr std::uint64_t size = disk::area_block_size;
  for (std::uint64_t at = area.offset; at < area.end(); at += size) {
    if (landed.offset <= at && at + size <= landed.offset + landed.bytes.size()) {
      use(landed.bytes.subspan(at - landed.offset, size));
    }
  }
}

}  // namespace

std::span<const Checker> all_checkers() {
  return table;
}

Checkers::Checkers(World& world, Workload& workload)
    : world_(world),
      workload_(workload),
      dumps_(world),
      layout_(nvlog::RegionLayout::of_size(world.shape().nvram_size).value()) {
  for (std::uint8_t n : {1, 2}) {
    identities_[n].id = NodeId(n);
    for (auto& unit : world.shelf(NodeId(n))) {
      units_.push_back({.unit = unit.get(), .foreign_since = {}});
      unit->on_landed = [this, before = std::move(unit->on_landed)](const SimUnit& u,
                                                                    const SimUnit::Landed& landed) {
        if (before) before(u, landed);
        on_landed(u, landed);
      };
    }
  }
  world.clients().on_server_send = [this, before = std::move(world.clients().on_server_send)](
                                       const ClientNetwork::ServerSend& send) {
    if (before) before(send);
    on_server_send(send);
  };
  workload.on_acknowledged = [this](const BlockRange& range, Stamp stamp) {
    on_acknowledged(range, stamp);
  };
  world.on_trace.emplace_back([this, alive = alive_](std::string_view who, std::string_view text) {
    if (*alive) on_trace(who, text);
  });
  world.after_step.emplace_back([this, alive = alive_] {
    if (*alive) check_units();
  });
  look_again();
}

Checkers::~Checkers() {
  *alive_ = false;
  for (Unit& unit : units_) unit.unit->on_landed = nullptr;
  world_.clients().on_server_send = nullptr;
  workload_.on_acknowledged = nullptr;
}

void Checkers::violate(NodeId identity, std::string_view invariant, std::string what) {
  if (world_.excused(identity, invariant)) return;
  world_.violate(invariant, std::move(what));
}

std::string Checkers::name(NodeId node) const {
  return node == no_node ? "nobody" : world_.config(NodeId(1)).name_of(node);
}

void Checkers::look_again() {
  world_.outside().at(world_.now() + look_interval, [this, alive = alive_] {
    if (!*alive) return;
    look();
    look_again();
  });
}

// ---- what lands on the disks: I3, I5, I9, I17 ----

void Checkers::on_landed(const SimUnit& unit, const SimUnit::Landed& landed) {
  Identity& identity = identities_[unit.options().owner.value()];
  const NodeId writer = writer_of(landed.nexus);
  const scsi::Reservations& reservations = unit.reservations();
  // A disk that forgot its keys takes what its owner sends until the owner holds it again.
  const bool own =
      unit.forgot() && world_.now() - *unit.forgot() < foreign_key_limit &&
      disk::belongs_to(reservations.holder_key(), writer, world_.config(identity.id).cluster);
  if (!landed.aborting && reservations.reservation() && !own &&
      reservations.find(landed.nexus) == nullptr) {
    violate(identity.id, "I3",
            fmt::format("a write of {} ({} bytes at {}) lands on disk {} although {} holds it",
                        name(writer), landed.bytes.size(), landed.offset, unit.options().name,
                        disk::describe(reservations.holder_key())));
  }
  dumps_.on_landed(unit, writer, landed);
  if (landed.offset < disk::mailbox_area.end()) {
    for (int copy = 0; copy < disk::mailbox_copies; ++copy) {
      for_blocks(landed, disk::mailbox_copy(copy),
                 [&](Bytes block) { check_mailbox_write(identity, writer, unit, block); });
    }
    return;
  }
  const disk::Area superblocks{disk::data_offset,
                               pool::superblock_slots * pool::superblock_size_max};
  if (landed.offset < superblocks.end()) {
    for_blocks(landed, superblocks,
               [&](Bytes block) { check_superblock_write(identity, unit, block); });
  }
}

void Checkers::check_mailbox_write(Identity& identity, NodeId writer, const SimUnit& unit,
                                   Bytes block) {
  const auto written = ha::decode_mailbox(block);
  if (!written || written->identity != identity.id) return;
  if (!identity.mailbox) identity.mailbox = mailbox_on_disk(identity.id);
  if (identity.mailbox) {
    const ha::Mailbox& before = *identity.mailbox;
    // A torn write may leave what was there, and the copies are written one after the other.
    if (written->generation <= before.generation) return;
    if (written->epoch < before.epoch) {
      violate(identity.id, "I5",
              fmt::format("{} writes epoch {} into the mailbox of {} on {}, where epoch {} was",
                          name(writer), written->epoch.value(), name(identity.id),
                          unit.options().name, before.epoch.value()));
    }
    check_giveback(before, *written, writer);
  }
  identity.mailbox = *written;
}

void Checkers::check_giveback(const ha::Mailbox& before, const ha::Mailbox& after, NodeId writer) {
  const NodeId home = after.identity;
  if (writer == home || before.taken_over_by != writer || after.taken_over_by != no_node) return;
  // By order a node gives back even to one that has yet to boot (`--uncoordinated`).
  // The write may land when the writer is dead.
  if (nodes_[writer.value()].uncoordinated) return;
  look_at_progress(home);
  const Duration still = world_.now() - nodes_[home.value()].progressed;
  if (still > progress_limit) {
    violate(home, "I17",
            fmt::format("{} gives back to {}, which has made no progress for {} ms", name(writer),
                        name(home), still / milliseconds(1)));
  }
}

void Checkers::check_superblock_write(Identity& identity, const SimUnit& unit, Bytes block) {
  const auto written = pool::decode_superblock(block);
  if (!written || written->generation <= identity.pool_generation) return;
  if (written->epoch < identity.pool_epoch) {
    violate(identity.id, "I5",
            fmt::format("a superblock of epoch {} lands on {}, where epoch {} was",
                        written->epoch.value(), unit.options().name, identity.pool_epoch.value()));
  }
  if (written->position.sequence < identity.position.sequence) {
    violate(
        identity.id, "I9",
        fmt::format("the superblock of generation {} on {} contains the log through {}, that "
                    "of generation {} through {}",
                    written->generation, unit.options().name, written->position.sequence.value(),
                    identity.pool_generation, identity.position.sequence.value()));
  }
  // It counts from the moment that every member has it: one that only some got was of a consistency
  // point that nobody saw the end of.
  auto& landing = identity.landing;
  if (landing.generation != written->generation) landing = {written->generation, {}};
  landing.units.insert(&unit);
  const auto members = std::ranges::count_if(written->layout.members, [](const auto& member) {
    return member.state != raid::MemberState::failed;
  });
  if (std::ssize(landing.units) < members) return;
  identity.pool_generation = written->generation;
  identity.pool_epoch = written->epoch;
  identity.position = written->position;
}

// ---- who answers: I2 ----

void Checkers::on_server_send(const ClientNetwork::ServerSend& send) {
  for (Identity& identity : identities_) {
    if (identity.id == no_node ||
        world_.config(identity.id).services[identity.id.value()].address != send.address) {
      continue;
    }
    const Epoch epoch = world_.node(send.node).served(identity.id).epoch;
    auto& answered = identity.answered;
    if (answered.node != no_node && answered.node != send.node && epoch <= answered.epoch) {
      violate(identity.id, "I2",
              fmt::format("{} answers for {} under epoch {} after {} has under epoch {}",
                          name(send.node), name(identity.id), epoch.value(), name(answered.node),
                          answered.epoch.value()));
    }
    if (epoch >= answered.epoch) answered = {send.node, epoch};
  }
}

// ---- what the disks say ----

const std::optional<ha::Mailbox>& Checkers::mailbox_on_disk(NodeId identity) {
  auto& known = identities_[identity.value()].on_disk;
  std::uint64_t changes = 0;
  for (const auto& unit : world_.shelf(identity)) changes += unit->mailbox_changes();
  if (known.changes == changes) return known.mailbox;
  known = {changes, {}};
  for (const auto& unit : world_.shelf(identity)) {
    for (int copy = 0; copy < disk::mailbox_copies; ++copy) {
      const disk::Area area = disk::mailbox_copy(copy);
      auto mailbox = ha::decode_mailbox(unit->peek(area.offset, area.size));
      if (!mailbox || (known.mailbox && mailbox->generation <= known.mailbox->generation)) continue;
      known.mailbox = *mailbox;
    }
  }
  return known.mailbox;
}

nvlog::LogPosition Checkers::position_on_disk(NodeId identity) {
  auto& known = identities_[identity.value()].superblock_on_disk;
  std::uint64_t changes = 0;
  for (const auto& unit : world_.shelf(identity)) changes += unit->pool_changes();
  if (known.changes == changes) return known.position;
  known = {changes, {}};
  std::uint64_t generation = 0;
  for (const auto& unit : world_.shelf(identity)) {
    for (std::uint64_t slot : {0, 1}) {
      auto superblock = pool::decode_superblock(unit->peek(
          disk::data_offset + slot * pool::superblock_size_max, pool::superblock_size_max));
      if (!superblock || superblock->generation < generation) continue;
      generation = superblock->generation;
      known.position = superblock->position;
    }
  }
  return known.position;
}

// ---- after every step: I5, I12 ----

void Checkers::check_units() {
  for (Unit& each : units_) {
    const SimUnit& unit = *each.unit;
    if (!unit.powered()) {
      each.reserved = false;
      each.generation = 0;
      continue;
    }
    const scsi::Reservations& reservations = unit.reservations();
    if (reservations.generation() < each.generation) {
      violate(unit.options().owner, "I5",
              fmt::format("PRGENERATION of disk {} goes from {} to {}", unit.options().name,
                          each.generation, reservations.generation()));
    }
    each.generation = reservations.generation();
    if (each.reserved && !reservations.reservation()) {
      violate(unit.options().owner, "I12",
              fmt::format("disk {} is without a reservation", unit.options().name));
    }
    each.reserved = reservations.reservation().has_value();
  }
}

// ---- every now and then: I6, I7, I16, and the progress for I17 ----

void Checkers::look() {
  for (std::uint8_t n : {1, 2}) {
    look_at_progress(NodeId(n));
    look_at_service(identities_[n]);
  }
  for (Unit& unit : units_) look_at_keys(unit);
  dumps_.look();
}

void Checkers::look_at_progress(NodeId node) {
  Node& seen = nodes_[node.value()];
  const auto structure = interconnect::decode_state_structure(world_.node(node).published_state());
  if (!structure) return;
  if (structure->progress == seen.progress && structure->nonce == seen.nonce) return;
  seen.progress = structure->progress;
  seen.nonce = structure->nonce;
  seen.progressed = world_.now();
}

void Checkers::look_at_service(Identity& identity) {
  const auto& service = world_.config(identity.id).services[identity.id.value()];
  unsigned answering = 0;
  for (std::uint8_t n : {1, 2}) {
    const SimNode& node = world_.node(NodeId(n));
    const auto served = node.served(identity.id);
    if (node.lease_valid(identity.id) &&
        world_.clients().listening(NodeId(n), service.address, service.port)) {
      ++answering;
    }
    if (std::exchange(identity.was_serving[n], served.serving) || !served.serving) continue;
    const auto& mailbox = mailbox_on_disk(identity.id);
    if (!mailbox || mailbox->epoch < served.epoch ||
        (mailbox->epoch == served.epoch && mailbox->server != NodeId(n))) {
      violate(identity.id, "I7",
              fmt::format("{} serves {} under epoch {}; the mailbox {}", name(NodeId(n)),
                          name(identity.id), served.epoch.value(),
                          mailbox ? fmt::format("says epoch {}, server {}", mailbox->epoch.value(),
                                                name(mailbox->server))
                                  : "is unreadable"));
    }
  }
  if (answering > 1) {
    violate(identity.id, "I16", fmt::format("both nodes answer at {}", service.address));
  }
}

bool Checkers::served_without(NodeId node, const SimUnit& unit) const {
  const node::Supervisor* supervisor = world_.node(node).supervisor();
  if (supervisor == nullptr) return false;
  for (const auto& identity : supervisor->core().snapshot(world_.now()).identities) {
    if (identity.identity == unit.options().owner &&
        std::ranges::find(identity.absent_disks, unit.options().index) !=
            identity.absent_disks.end()) {
      return true;
    }
  }
  return false;
}

void Checkers::look_at_keys(Unit& each) {
  const SimUnit& unit = *each.unit;
  const NodeId identity = unit.options().owner;
  NodeId serving = no_node;
  for (std::uint8_t n : {1, 2}) {
    const SimNode& node = world_.node(NodeId(n));
    if (node.served(identity).serving && node.lease_valid(identity)) serving = NodeId(n);
  }
  const ClusterId cluster = world_.config(identity).cluster;
  // A disk that the identity is served without is nobody's until it is fenced again.
  const bool foreign =
      serving != no_node && unit.powered() && !unit.hanging() && !unit.path_cut(serving) &&
      std::ranges::any_of(unit.reservations().registrations(),
                          [&](const auto& registration) {
                            return !disk::belongs_to(registration.key, serving, cluster);
                          }) &&
      !served_without(serving, unit);
  if (!foreign) {
    each.foreign_since.reset();
    return;
  }
  if (!each.foreign_since) each.foreign_since = world_.now();
  if (world_.now() - *each.foreign_since <= foreign_key_limit) return;
  std::string keys;
  for (const auto& registration : unit.reservations().registrations()) {
    keys += ", " + disk::describe(registration.key);
  }
  violate(identity, "I6",
          fmt::format("{} serves {}; on disk {} are registered{}", name(serving), name(identity),
                      unit.options().name, keys));
}

// ---- I18 ----

void Checkers::check_liveness(Instant since) {
  for (std::uint8_t n : {1, 2}) {
    if (!world_.excuse(NodeId(n)).empty()) return;
  }
  const std::string unserved = workload_.unserved_since(since);
  if (!unserved.empty()) world_.violate("I18", unserved);
}

}  // namespace duet::simulator
