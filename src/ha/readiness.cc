#include "ha/readiness.h"

#include <algorithm>

namespace duet::ha {
namespace {

constexpr std::size_t max_of_a_move = max_obstacles / 2;

std::string disks_text(const std::vector<std::uint8_t>& disks) {
  std::string text = disks.size() == 1 ? "disk " : "disks ";
  for (std::size_t i = 0; i < disks.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(disks[i]);
  }
  return text;
}

// What the partner's failover monitor says first about its failed modules.
std::string failed_modules(const HealthRecord& record) {
  std::string text;
  for (const auto& m : record.modules) {
    if (m.health != Health::failed) continue;
    text += (text.empty() ? "" : ", ") + std::string(name(m.module));
  }
  return text;
}

}  // namespace

std::string inventory_difference(const Inventory& ours, const Inventory& theirs) {
  if (ours.disks != theirs.disks) {
    return "configured " + std::to_string(ours.disks) + " disks here, " +
           std::to_string(theirs.disks) + " at the partner";
  }
  for (std::size_t i = 0; i < ours.disks; ++i) {
    bool known = ours.serial[i] != 0 && theirs.serial[i] != 0;
    if (known && ours.serial[i] != theirs.serial[i]) {
      return "disk " + std::to_string(i) + " is another one at the partner";
    }
  }
  return {};
}

void complete_takeover(Vetoes& vetoes, const ReadinessFacts& f) {
  for (auto& veto : vetoes) {
    if (veto.reason == Reason::partner_disks_unreachable && !f.unreachable.empty()) {
      veto.detail = disks_text(f.unreachable);
    }
  }
  if (f.link == ports::LinkState::incompatible_version) {
    vetoes.push_back({.reason = Reason::version_mismatch, .hard = true});
  }
  if (!f.own_health) return;
  if (f.partner_health) {
    for (std::size_t shelf = 0; shelf < 2; ++shelf) {
      auto difference = inventory_difference(f.own_health->inventories[shelf],
                                             f.partner_health->inventories[shelf]);
      if (difference.empty()) continue;
      vetoes.push_back({.reason = Reason::inventory_mismatch,
                        .hard = true,
                        .detail = "shelf " + std::to_string(shelf + 1) + ": " + difference});
    }
  } else if (f.partner == Verdict::alive) {
    vetoes.push_back({.reason = Reason::health_unknown, .hard = false});
  }
  if (cannot_serve(*f.own_health)) {
    vetoes.push_back({.reason = Reason::survivor_unwell,
                      .hard = false,
                      .detail = failed_modules(*f.own_health)});
  }
}

void complete_giveback(Vetoes& vetoes, const ReadinessFacts& f) {
  bool nothing =
      std::ranges::any_of(vetoes, [](const auto& v) { return v.reason == Reason::not_taken_over; });
  if (nothing) return;
  if (f.link == ports::LinkState::incompatible_version) {
    vetoes.push_back({.reason = Reason::version_mismatch, .hard = true});
  }
  if (f.partner_health && cannot_serve(*f.partner_health)) {
    vetoes.push_back({.reason = Reason::partner_unwell,
                      .hard = false,
                      .detail = failed_modules(*f.partner_health)});
  }
}

std::vector<Obstacle> obstacles(Move move, const Vetoes& vetoes) {
  std::vector<Obstacle> list;
  for (bool hard : {true, false}) {
    for (const auto& veto : vetoes) {
      if (veto.hard == hard && list.size() < max_of_a_move) {
        list.push_back({move, veto.reason, hard, veto.detail});
      }
    }
  }
  return list;
}

std::string_view cure(Reason reason) {
  switch (reason) {
    case Reason::not_up:
    case Reason::awaiting_engine:
      return "wait until this node is up; 'duet status' says what it waits for";
    case Reason::already_taken_over:
      return "nothing: give back first if you want to take over again";
    case Reason::not_taken_over:
      return "nothing: there is nothing to give back";
    case Reason::busy:
    case Reason::ended:
    case Reason::departing:
      return "wait until the move under way is over; 'duet status' shows it";
    case Reason::partner_disks_unreachable:
      return "check the cables from this node to the partner's shelf; 'duet disk list' shows them";
    case Reason::no_lease:
      return "check this node's own shelf; 'duet disk list' shows it";
    case Reason::inventory_mismatch:
      return "make both nodes see the same disks in the same order: cables, and [[shelf]] of both "
             "configurations";
    case Reason::version_mismatch:
      return "bring the older node to a version that the other one speaks";
    case Reason::mailbox_unknown:
      return "make a majority of the mailbox disks readable from here";
    case Reason::log_not_here:
      return "clears when the mirror is up; or --override=log_not_here, which loses acknowledged "
             "writes";
    case Reason::log_damaged:
      return "start the partner, whose own log may be whole; or --override=log_damaged, which "
             "loses "
             "every write since its last consistency point";
    case Reason::halt_without_takeover:
      return "start the partner again, or --override=halt_without_takeover";
    case Reason::not_prepared:
      return "see 'duet events' for what the engine met; or --override=not_prepared";
    case Reason::hand_over_failed:
      return "see 'duet events' of the node that shall go; or --override=hand_over_failed";
    case Reason::survivor_unwell:
      return "repair this node ('duet health'), or --override=survivor_unwell";
    case Reason::partner_unwell:
      return "repair the partner ('duet health' there), or --override=partner_unwell";
    case Reason::health_unknown:
      return "wait for the partner's report (interconnect), or --override=health_unknown";
    case Reason::label_unfit:
      return "check [[shelf]] portal, iqn and luns of this node's configuration: is it the right "
             "disk?";
    case Reason::foreign_reservation:
      return "find out who holds it, and have it released there";
    case Reason::coredump_in_progress:
      return "wait until the dump is saved, or --override=coredump_in_progress";
    case Reason::disk_done_without:
      return "replace the disk, or look at this node's path to it; another failure may not be "
             "borne";
    case Reason::partner_not_waiting:
      return "start the partner; it must boot until it waits for the giveback";
    case Reason::partner_makes_no_progress:
      return "look at the partner: its boot is stuck; restart it";
    default:
      return "";
  }
}

}  // namespace duet::ha
