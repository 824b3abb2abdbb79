#include "ha/durability.h"

#include <algorithm>

namespace duet::ha {

using Kind = MailboxKeeper::Outcome::Kind;

Durability allowed_mode(Durability wanted, bool partner_fenced, bool persistent,
                        bool mirror_known) {
  switch (wanted) {
    case Durability::mirrored:
      return mirror_known ? wanted : Durability::write_through;
    case Durability::local:
      return partner_fenced && persistent ? wanted : Durability::write_through;
    case Durability::write_through:
      return wanted;
  }
  return Durability::write_through;
}

void DurabilityMarks::on_wanted(const DurabilityWanted& wanted) {
  marks_[wanted.identity.value()].pending = wanted;
}

void DurabilityMarks::forget(NodeId identity) {
  marks_[identity.value()] = {};
}

bool DurabilityMarks::advance(World& world, std::array<bool, 3> served, Output& out) {
  bool changed = false;
  for (auto identity : {NodeId(1), NodeId(2)}) {
    auto& mark = marks_[identity.value()];
    if (!served[identity.value()] || !mark.pending || mark.writing || mark.retry > out.now())
      continue;
    auto& keeper = world.keeper(identity);
    if (!world.mailbox(identity) || !world.engine || keeper.writing()) continue;
    bool mirror_known = world.partner_nvram && world.partner_nvram->boot == world.monitor.nonce() &&
                        !world.partner_fenced;
    auto wanted = *mark.pending;
    wanted.mode =
        allowed_mode(wanted.mode, world.partner_fenced, world.engine->persistent, mirror_known);
    mark.writing = wanted;
    mark.pending.reset();
    auto m = *world.mailbox(identity);
    m.generation = keeper.next_generation();
    m.durability = wanted.mode;
    m.durability_since = wanted.since;
    m.log_epoch = m.epoch;  // M6: the engine asks only once the replay is on disk
    m.nvram_server = world.engine->nvram;
    m.nvram_mirror = wanted.mode == Durability::mirrored ? world.partner_nvram->nvram : 0;
    m.reason = 0;
    m.writer = world.nonce;
    keeper.write(MailboxKeeper::Purpose::durability, m, out);
    changed = true;
  }
  return changed;
}

void DurabilityMarks::on_mailbox(const MailboxKeeper::Outcome& outcome, NodeId identity,
                                 World& world, Output& out) {
  auto& mark = marks_[identity.value()];
  if (!mark.writing) return;
  auto wanted = *mark.writing;
  mark.writing.reset();
  if (outcome.kind == Kind::written) {
    world.mailbox(identity) = outcome.mailbox;
    out.act(GrantDurability{identity, wanted.mode, wanted.since});
    out.log(Severity::notice, "durability.changed",
            "identity " + std::to_string(identity.value()) + ": " + std::string(name(wanted.mode)));
  } else if (outcome.kind == Kind::fenced) {
    world.fenced = "a reservation keeps our mailbox writes out";
  } else {
    mark.retry = out.now() + io_retry;
    if (!mark.pending) mark.pending = wanted;
  }
}

Instant DurabilityMarks::next_time() const {
  Instant next = never;
  for (const auto& mark : marks_) {
    if (mark.pending && !mark.writing) next = std::min(next, mark.retry);
  }
  return next;
}

}  // namespace duet::ha
