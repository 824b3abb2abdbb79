#include "ha/departure.h"

#include <algorithm>
#include <array>

#include "base/assert.h"
#include "base/coverage.h"

namespace duet::ha {

using Answer = OperatorAnswer::Outcome;

void Departure::answer(std::uint64_t& request, Answer outcome, const std::vector<Reason>& reasons,
                       Output& out) {
  if (request == 0) return;
  std::vector<std::string> texts;
  for (auto reason : reasons) texts.emplace_back(sentence(reason));
  out.act(OperatorAnswer{request, outcome, std::move(texts)});
  if (outcome != Answer::accepted) request = 0;
}

void Departure::ask(const PleaseTakeover& please, std::uint64_t request, Output& out) {
  ASSERT(idle());
  request_ = request;
  Asking asking{please, out.now(), out.now() + ask_limit};
  asking.please.number = ++last_number_;
  out.log(Severity::notice, "departure.asking", "the partner is asked to take over");
  state_ = asking;
}

void Departure::tell_declined(World& world, Output& out) const {
  world.send(ShutdownDeclined{static_cast<std::uint8_t>(declined_.why), declined_.attempt},
             declined_.partner, out);
}

void Departure::decline(std::uint64_t attempt, BootNonce partner, Reason why, World& world,
                        Output& out) {
  declined_ = {attempt, partner, why};
  tell_declined(world, out);
}

void Departure::on_please_shutdown(const PleaseShutdown& please, BootNonce sender, Reason obstacle,
                                   World& world, Output& out) {
  if (leaving()) return;
  if (declined_.partner == sender && declined_.attempt == please.attempt) {
    return tell_declined(world, out);
  }
  auto ends = out.now() + milliseconds(please.left_ms);
  if (auto* s = std::get_if<Departing>(&state_)) {
    if (s->partner != sender || s->attempt != please.attempt) return;
    s->heard = out.now();
    s->ends = ends;
    ++world.progress;
    return;
  }
  if (obstacle != Reason::none) {
    out.log(Severity::warning, "departure.refused", std::string(sentence(obstacle)));
    return decline(please.attempt, sender, obstacle, world, out);
  }
  answer(request_, Answer::accepted, {}, out);
  ++world.progress;
  out.log(Severity::notice, "departure.handing_over",
          "the partner takes over by order: " + std::to_string(please.left_ms) + " ms are left");
  out.act(HandOverIdentity{world.self()});
  state_ =
      Departing{.attempt = please.attempt, .partner = sender, .heard = out.now(), .ends = ends};
}

void Departure::on_refused(const TakeoverRefused& refused, Output& out) {
  auto* s = std::get_if<Asking>(&state_);
  if (s == nullptr || s->please.number != refused.number) return;
  std::vector<Reason> reasons;
  for (auto code : refused.reasons) {
    if (code != 0) reasons.push_back(static_cast<Reason>(code));
  }
  out.log(Severity::warning, "departure.refused_by_partner",
          reasons.empty() ? "" : std::string(sentence(reasons.front())));
  answer(request_, Answer::refused, reasons, out);
  state_ = Idle{};
}

void Departure::begin_cancel(Departing& s, Reason why, World& world, Output& out) {
  if (s.cancelling != Reason::none) return;
  ++world.progress;
  s.cancelling = why;
  s.cancel_until = out.now() + cancel_limit;
  out.log(Severity::notice, "departure.cancelling", std::string(sentence(why)));
  out.act(CancelHandOver{world.self()});
}

void Departure::on_cancel(const CancelShutdown& cancel, World& world, Output& out) {
  if (leaving()) return;
  if (auto* s = std::get_if<Departing>(&state_); s && s->attempt == cancel.attempt) {
    return begin_cancel(*s, Reason::cancelled, world, out);
  }
  if (std::holds_alternative<Declining>(state_) && cancel.attempt == declined_.attempt) {
    answer(cancel_request_, Answer::done, {}, out);
    state_ = Idle{};
    return;
  }
  // We serve: a please shutdown of that attempt that is still on its way is declined, too.
  auto why = declined_.attempt == cancel.attempt ? declined_.why : Reason::cancelled;
  decline(cancel.attempt, world.monitor.nonce(), why, world, out);
}

void Departure::on_handed_over(std::uint64_t stored, World& world, Output& out) {
  auto* s = std::get_if<Departing>(&state_);
  if (s == nullptr) return;
  ++world.progress;
  out.log(Severity::notice, "departure.handed_over",
          std::to_string(stored) + " requests that had not begun are in the log");
  if (s->cancelling != Reason::none) {
    MARK(departure_cancel_too_late);
    answer(cancel_request_, Answer::refused, {Reason::too_late}, out);
  }
  state_ = Leaving{.quiet = true};
}

void Departure::on_hand_over_failed(const std::string& why, World& world, Output& out) {
  auto* s = std::get_if<Departing>(&state_);
  if (s == nullptr) return;
  ++world.progress;
  auto reason = s->cancelling != Reason::none ? s->cancelling : Reason::hand_over_failed;
  out.log(Severity::warning, "departure.ended", std::string(sentence(reason)) + ": " + why);
  answer(request_, Answer::failed, {reason}, out);
  decline(s->attempt, s->partner, reason, world, out);
  if (cancel_request_ != 0) {
    state_ = Declining{out.now() + told_limit};
  } else {
    state_ = Idle{};
  }
}

bool Departure::may_cancel() const {
  auto* s = std::get_if<Departing>(&state_);
  return asking() || (s != nullptr && s->cancelling == Reason::none);
}

Reason Departure::cancel(std::uint64_t request, World& world, Output& out) {
  if (leaving()) return Reason::too_late;
  if (!may_cancel()) return Reason::no_takeover_under_way;
  if (asking()) {
    world.send(ShutdownDeclined{static_cast<std::uint8_t>(Reason::cancelled), 0},
               world.monitor.nonce(), out);
    out.act(OperatorAnswer{request, Answer::accepted, {}});
    out.act(OperatorAnswer{request, Answer::done, {}});
    answer(request_, Answer::failed, {Reason::cancelled}, out);
    state_ = Idle{};
    return Reason::none;
  }
  cancel_request_ = request;
  answer(cancel_request_, Answer::accepted, {}, out);
  begin_cancel(std::get<Departing>(state_), Reason::cancelled, world, out);
  return Reason::none;
}

//  Idle --ask--> Asking --refused, no answer, cancelled, partner gone--> Idle
//   |              | please shutdown
//   +--------------+----> Departing --handed over--> Leaving: the core ends the boot
//   |                        | hand over failed, or cancelled (also: no please shutdown any more)
//   +-- told, or 2 s -- Declining (only for an operator who waits) <--+
bool Departure::advance(World& world, Output& out) {
  auto now = out.now();
  auto verdict = world.verdict(now);
  bool lost = verdict == Verdict::gone || verdict == Verdict::dead || verdict == Verdict::absent;
  return std::visit(Overloaded{
                        [](Idle&) { return false; },
                        [&](Asking& s) {
                          if (lost || now >= s.until) {
                            out.log(Severity::warning, "departure.unanswered",
                                    std::string(sentence(Reason::no_answer)));
                            answer(request_, Answer::failed, {Reason::no_answer}, out);
                            state_ = Idle{};
                            return true;
                          }
                          if (s.send_at > now) return false;
                          s.send_at = now + ask_interval;
                          world.send(s.please, world.monitor.nonce(), out);
                          return false;
                        },
                        [&](Departing& s) {
                          bool deserted = lost || now >= s.heard + desertion;
                          if (deserted && s.cancelling == Reason::none) {
                            MARK(departure_deserted);
                            begin_cancel(s, Reason::partner_silent_to_us, world, out);
                          }
                          if (s.cancel_until > now) return false;
                          out.log(Severity::error, "departure.stuck", "the engine does not answer");
                          state_ = Leaving{.quiet = false};
                          return true;
                        },
                        [&](Declining& s) {
                          if (s.until > now) return false;
                          answer(cancel_request_, Answer::done, {Reason::no_answer}, out);
                          state_ = Idle{};
                          return true;
                        },
                        [](Leaving&) { return false; },
                    },
                    state_);
}

std::string_view Departure::step() const {
  constexpr std::array<std::string_view, std::variant_size_v<decltype(state_)>> names{
      "idle", "asking", "departing", "declining", "leaving"};
  return names.at(state_.index());
}

std::optional<Instant> Departure::ends() const {
  auto* s = std::get_if<Departing>(&state_);
  return s != nullptr ? std::optional(s->ends) : std::nullopt;
}

Instant Departure::next_time() const {
  return std::visit(Overloaded{
                        [](const Idle&) { return never; },
                        [](const Asking& s) { return std::min(s.send_at, s.until); },
                        [](const Departing& s) {
                          return s.cancelling == Reason::none ? s.heard + desertion
                                                              : s.cancel_until;
                        },
                        [](const Declining& s) { return s.until; },
                        [](const Leaving&) { return never; },
                    },
                    state_);
}

}  // namespace duet::ha
