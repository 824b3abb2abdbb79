// The checkers of the logs: I4, I8.
#include <fmt/format.h>

#include <utility>

#include "nvlog/control_block.h"
#include "nvlog/record.h"
#include "simulator/checkers.h"
#include "simulator/replay_rehearsal.h"
#include "simulator/sim_node.h"

namespace duet::simulator {

// ---- acknowledgements: I4 ----

Bytes Checkers::region(NodeId node) const {
  SimNvram& nvram = world_.node(node).nvram();
  return nvram.persistent() ? nvram.durable() : nvram.visible();
}

// Whether a second copy that was there when it counted may be gone: volatile NVRAM without power.
bool Checkers::forgot_lately(NodeId node) {
  Node& seen = nodes_[node.value()];
  const auto forgotten = world_.node(node).nvram().forgotten();
  if (forgotten != seen.forgotten) seen.forgot = world_.now();
  seen.forgotten = forgotten;
  return forgotten != 0 && world_.now() - seen.forgot < answer_delay_max;
}

bool Checkers::is_write(const nvlog::RecordView& record, const BlockRange& range,
                        Stamp stamp) const {
  return record.header.kind == nvlog::RecordKind::write &&
         record.header.identity == range.identity && record.header.words[0] == range.lun &&
         record.header.words[1] == range.first * block_size &&
         record.payload.size() == std::size_t{range.count} * block_size &&
         read_block(record.payload.first(block_size), range, range.first) == stamp;
}

// Reads the ring on from where it was read last, and from its tail when that did not help.
std::optional<nvlog::RecordView> Checkers::find_write(NodeId node, const BlockRange& range,
                                                      Stamp stamp) {
  const nvlog::Extent place = layout_.ring(range.identity);
  const Bytes ring = region(node).subspan(place.offset, place.length);
  Index& index = indexes_[node.value()][range.identity.value()];
  const auto known = [&]() -> std::optional<nvlog::RecordView> {
    auto found = index.addresses.find(stamp);
    if (found == index.addresses.end()) return std::nullopt;
    auto record = nvlog::read_record(ring, found->second);
    return record && is_write(*record, range, stamp) ? record : std::nullopt;
  };
  const auto read_on = [&](std::uint64_t limit) {
    for (auto record = nvlog::read_record(ring, index.cursor);
         record && record->end > index.cursor && record->end <= limit;
         record = nvlog::read_record(ring, index.cursor)) {
      index.cursor = record->end;
      const auto& words = record->header.words;
      if (record->header.kind != nvlog::RecordKind::write || record->payload.size() < block_size) {
        continue;
      }
      const BlockRange whole{range.identity, static_cast<std::uint16_t>(words[0]),
                             words[1] / block_size,
                             static_cast<std::uint32_t>(record->payload.size() / block_size)};
      const auto written = read_block(record->payload.first(block_size), whole, whole.first);
      if (written) index.addresses[*written] = record->address;
    }
  };
  read_on(index.cursor + place.length);
  if (auto record = known()) return record;
  const auto control = nvlog::read_control_block(region(node), layout_, range.identity);
  index.addresses.clear();
  index.cursor = control.tail.lap * place.length + control.tail.offset;
  read_on(index.cursor + place.length);
  return known();
}

// Both rings hold it at the same address. Not in a ring at all: a consistency point has it.
void Checkers::on_acknowledged(const BlockRange& range, Stamp stamp) {
  if (stamp == 0) return;
  const nvlog::Extent place = layout_.ring(range.identity);
  const auto& served_by = mailbox_on_disk(range.identity);
  for (std::uint8_t n : {1, 2}) {
    // The log of a node that is out may still hold an earlier try of this write, under a number
    // that was given again since.
    const NodeId server = served_by && served_by->taken_over_by != no_node
                              ? served_by->taken_over_by
                              : range.identity;
    if (served_by && NodeId(n) != server) continue;
    const auto record = find_write(NodeId(n), range, stamp);
    if (!record) continue;
    // What an earlier epoch left behind the end of its log is such a try, too: the rest of it was
    // in a consistency point before anything was served.
    const bool older = record->header.epoch < world_.node(NodeId(n)).served(range.identity).epoch;
    if (older) continue;
    const NodeId partner = partner_of(NodeId(n));
    const auto holds = [&](Bytes whole) {
      if (whole.empty()) return false;
      const auto other =
          nvlog::read_record(whole.subspan(place.offset, place.length), record->address);
      return other && is_write(*other, range, stamp);
    };
    if (holds(region(partner))) return;
    // What counted may be what power took since.
    if (forgot_lately(partner) && holds(world_.node(partner).nvram().before_loss())) return;
    if (position_on_disk(range.identity).sequence >= record->header.sequence) return;
    const auto& mailbox = mailbox_on_disk(range.identity);
    if (!mailbox || mailbox->durability == Durability::local) return;
    violate(range.identity, "I4",
            fmt::format("a write of {} blocks at {} to LUN {} of {} was acknowledged; its record "
                        "{} is in the NVRAM of {} only, the consistency point holds the log "
                        "through {}, the mailbox says {}",
                        range.count, range.first, range.lun, name(range.identity),
                        record->header.sequence.value(), name(NodeId(n)),
                        position_on_disk(range.identity).sequence.value(),
                        duet::name(mailbox->durability)));
    return;
  }
}

// ---- replays: I8 ----

void Checkers::on_trace(std::string_view who, std::string_view text) {
  dumps_.on_trace(who, text);
  for (std::uint8_t n : {1, 2}) {
    if (name(NodeId(n)) != who) continue;
    if (text.starts_with("giveback.released")) nodes_[n].uncoordinated = false;
    if (text.starts_with("giveback.uncoordinated")) nodes_[n].uncoordinated = true;
  }
  if (!text.starts_with("replay.applied")) return;
  for (std::uint8_t n : {1, 2}) {
    if (who != name(NodeId(n))) continue;
    const bool own = text.find(" of " + name(NodeId(n)) + " applied") != std::string_view::npos;
    check_replay(NodeId(n), own ? NodeId(n) : partner_of(NodeId(n)));
  }
}

void Checkers::check_replay(NodeId node, NodeId identity) {
  const nvlog::Extent place = layout_.ring(identity);
  const Bytes ring = region(node).subspan(place.offset, place.length);
  ReplayRehearsal rehearsal(world_.shelf(identity), ring, identity);
  const auto once = rehearsal.replay({});
  if (!once) return;  // a disk damaged on purpose, a log that is refused
  const auto cut_off = 1 + world_.clock().steps() % ReplayRehearsal::cut_off_max;
  const auto twice = rehearsal.replay(cut_off);
  if (!twice || twice->digest != once->digest) {
    return violate(identity, "I8",
                   fmt::format("a replay of the log of {} that was cut off after {} writes to the "
                               "disks, and its repetition, make something else of it than one",
                               name(identity), cut_off));
  }
  auto& before = replayed_[identity.value()];
  if (before && before->from == once->from && before->end == once->end &&
      before->digest != once->digest) {
    return violate(identity, "I8",
                   fmt::format("the second replay of the log of {} through record {} makes "
                               "something else of it than the first",
                               name(identity), once->end.sequence.value()));
  }
  before = {once->from, once->end, once->digest};
}

}  // namespace duet::simulator
