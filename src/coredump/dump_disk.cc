#include "coredump/dump_disk.h"

#include <tuple>

namespace duet::coredump {
namespace {

bool header_is_strange(const DumpCandidate& c) {
  return !c.header || (!*c.header && c.header->error().code == ErrorCode::unsupported_version);
}

}  // namespace

std::string_view name(Refusal refusal) {
  switch (refusal) {
    case Refusal::none:
      return "none";
    case Refusal::unreadable:
      return "unreadable";
    case Refusal::no_label:
      return "no_label";
    case Refusal::other_disk:
      return "other_disk";
    case Refusal::other_owner:
      return "other_owner";
    case Refusal::holds_data:
      return "holds_data";
    case Refusal::mailbox_disk:
      return "mailbox_disk";
    case Refusal::drafted:
      return "drafted";
    case Refusal::not_reserved:
      return "not_reserved";
    case Refusal::too_small:
      return "too_small";
  }
  return "?";
}

Refusal refusal(const DumpCandidate& c, ClusterId cluster, NodeId self) {
  if (!c.label || header_is_strange(c)) return Refusal::unreadable;
  if (!*c.label) return Refusal::no_label;
  const disk::Label& label = (*c.label)->label;
  if (label.cluster != cluster || label.id != c.expected || label.size > c.medium_size) {
    return Refusal::other_disk;
  }
  if (label.owner != self) return Refusal::other_owner;
  switch (label.role) {
    case disk::Role::data:
      return Refusal::holds_data;
    case disk::Role::spare:
    case disk::Role::coredump:
      break;
  }
  if (label.mailbox) return Refusal::mailbox_disk;
  if (label.role == disk::Role::spare && !c.raid_left_it) return Refusal::drafted;
  if (!c.reserved) return Refusal::not_reserved;
  if (label.size < disk::data_offset + min_dump_room) return Refusal::too_small;
  return Refusal::none;
}

std::optional<DumpDisk> choose_dump_disk(std::span<const DumpCandidate> candidates,
                                         ClusterId cluster, NodeId self) {
  auto rank = [&](std::size_t i) {
    const disk::Label& label = (*candidates[i].label)->label;
    // Smaller is better: dedicated first, then the larger, then the lower id.
    return std::tuple(label.role == disk::Role::coredump ? 0 : 1, ~label.size, label.id);
  };
  std::optional<std::size_t> best;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (refusal(candidates[i], cluster, self) != Refusal::none) continue;
    if (!best || rank(i) < rank(*best)) best = i;
  }
  if (!best) return std::nullopt;
  const DumpCandidate& chosen = candidates[*best];
  DumpDisk out;
  out.candidate = *best;
  out.room = (*chosen.label)->label.size - disk::data_offset;
  if (*chosen.header && (*chosen.header)->sequence != ~std::uint64_t{0}) {
    out.sequence = (*chosen.header)->sequence + 1;
  }
  return out;
}

}  // namespace duet::coredump
