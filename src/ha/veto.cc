#include "ha/veto.h"

#include <algorithm>
#include <array>
#include <utility>

namespace duet::ha {
namespace {

// All soft vetoes there are.
constexpr std::array soft_reasons{
    Reason::log_not_here,   Reason::log_damaged,      Reason::halt_without_takeover,
    Reason::not_prepared,   Reason::hand_over_failed, Reason::survivor_unwell,
    Reason::partner_unwell, Reason::health_unknown,   Reason::coredump_in_progress};

bool soft(Reason reason) {
  return std::ranges::find(soft_reasons, reason) != soft_reasons.end();
}

void add(Vetoes& vetoes, bool applies, Reason reason) {
  if (applies) vetoes.push_back({.reason = reason, .hard = !soft(reason)});
}

}  // namespace

std::string describe(const Veto& veto) {
  std::string text(sentence(veto.reason));
  if (!veto.detail.empty()) text += ": " + veto.detail;
  if (!veto.hard) text += " [--override=" + std::string(name(veto.reason)) + "]";
  return text;
}

Vetoes takeover_vetoes(const TakeoverView& v) {
  Vetoes vetoes;
  add(vetoes, !v.up, Reason::not_up);
  add(vetoes, v.serves_partner, Reason::already_taken_over);
  add(vetoes, v.busy && !v.serves_partner, Reason::busy);
  add(vetoes, v.departing, Reason::departing);
  add(vetoes, !v.engine, Reason::awaiting_engine);
  add(vetoes, !v.disks_connected, Reason::partner_disks_unreachable);
  add(vetoes, !v.version_known, Reason::version_mismatch);
  add(vetoes, v.up && !v.lease, Reason::no_lease);
  add(vetoes, !v.mailbox_known, Reason::mailbox_unknown);
  add(vetoes, v.mailbox_known && v.engine && !v.log_here, Reason::log_not_here);
  add(vetoes, v.mailbox_known && v.halted_for_maintenance, Reason::halt_without_takeover);
  return vetoes;
}

Vetoes giveback_vetoes(const GivebackView& v) {
  Vetoes vetoes;
  add(vetoes, !v.serves_partner, Reason::not_taken_over);
  if (!v.serves_partner) return vetoes;
  add(vetoes, v.giving, Reason::busy);
  add(vetoes, !v.version_known, Reason::version_mismatch);
  add(vetoes, !v.partner_waits, Reason::partner_not_waiting);
  add(vetoes, v.partner_waits && !v.partner_advances, Reason::partner_makes_no_progress);
  return vetoes;
}

bool decided_when_checking(Reason reason) {
  return reason == Reason::mailbox_unknown || reason == Reason::log_not_here ||
         reason == Reason::halt_without_takeover;
}

Result<std::vector<Reason>> parse_overrides(const std::vector<std::string>& names) {
  std::vector<Reason> reasons;
  for (const auto& text : names) {
    auto* found = std::ranges::find(soft_reasons, text, [](Reason r) { return name(r); });
    if (found == soft_reasons.end()) {
      std::string why = "there is no veto '" + text + "' that could be overridden; there are";
      for (auto reason : soft_reasons) why.append(" ").append(name(reason)).append(",");
      why.pop_back();
      return fail(ErrorCode::refused, std::move(why));
    }
    reasons.push_back(*found);
  }
  return reasons;
}

Vetoes standing(const Vetoes& vetoes, bool force, const std::vector<Reason>& overrides) {
  Vetoes rest;
  for (const auto& veto : vetoes) {
    bool over =
        !veto.hard && (force || std::ranges::find(overrides, veto.reason) != overrides.end());
    if (!over) rest.push_back(veto);
  }
  return rest;
}

}  // namespace duet::ha
