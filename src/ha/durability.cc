#include "ha/durability.h"

#include <algorithm>

#include "base/assert.h"

namespace duet::ha {

using Kind = MailboxKeeper::Outcome::Kind;

MarkDecision decide_mark(Durability wanted, bool persistent, bool mirror_known) {
  switch (wanted) {
    case Durability::mirrored:
      return mirror_known ? MarkDecision::mark : MarkDecision::wait;
    case Durability::local:
      return persistent ? MarkDecision::mark : MarkDecision::decline;
    case Durability::write_through:
      return MarkDecision::mark;
  }
  UNREACHABLE();
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
    auto wanted = *mark.pending;
    auto decision =
        decide_mark(wanted.mode, world.engine->persistent, world.partner_nvram.has_value());
    if (decision == MarkDecision::wait) continue;
    mark.pending.reset();
    changed = true;
    if (decision == MarkDecision::decline) {
      out.act(GrantDurability{identity, Durability::write_through, wanted.since});
      continue;
    }
    mark.writing = wanted;
    auto m = *world.mailbox(identity);
    m.generation = keeper.next_generation();
    m.durability = wanted.mode;
    m.durability_since = wanted.since;
    m.log_epoch = m.epoch;  // M6: the engine asks only once the replay is on disk
    m.nvram_server = world.engine->nvram;
    m.nvram_mirror = wanted.mode == Durability::mirrored ? world.partner_nvram->nvram : 0;
    m.writer = world.nonce;
    keeper.write(MailboxKeeper::Purpose::durability, m, out);
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
    if (mark.pending && !mark.writing && mark.retry != Instant{}) next = std::min(next, mark.retry);
  }
  return next;
}

}  // namespace duet::ha
