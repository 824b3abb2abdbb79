// The part of a takeover that a partner which serves knows of: warming up, the countdown, and its
// end, by the partner's leaving, by force, or by a cancellation.
#include "base/coverage.h"
#include "ha/takeover.h"

namespace duet::ha {

using Answer = OperatorAnswer::Outcome;

void Takeover::drop_prepared(World& world, Output& out) {
  if (std::exchange(prepared_, false)) out.act(DropPrepared{world.partner()});
}

void Takeover::give_up(Answer outcome, Reason why, World& world, Output& out) {
  if (counting_down()) world.send(CancelShutdown{attempt_}, world.monitor.nonce(), out);
  drop_prepared(world, out);
  if (order_.asked != 0) {
    TakeoverRefused refused{.number = order_.asked, .reasons = {static_cast<std::uint8_t>(why)}};
    world.send(refused, world.monitor.nonce(), out);
  }
  answer(outcome, why, out);
  out.log(Severity::notice, "takeover.given_up", std::string(sentence(why)));
  refusal_ = why;
  state_ = Idle{};
}

void Takeover::warm(World& world, Output& out) {
  ++world.progress;
  out.log(Severity::notice, "takeover.warming", "the partner serves meanwhile");
  prepared_ = true;
  out.act(PrepareIdentity{world.partner()});
  state_ = Warming{out.now() + warming_limit};
}

void Takeover::on_prepared(const IdentityPrepared& event, World& world, Output& out) {
  if (!std::holds_alternative<Warming>(state_)) return;
  if (event.prepared) return count_down(world, out);
  out.log(Severity::warning, "takeover.not_prepared", event.why);
  if (order_.overridden(Reason::not_prepared)) return count_down(world, out);
  give_up(Answer::failed, Reason::not_prepared, world, out);
}

// The partner ends by itself: what follows is a plain takeover.
bool Takeover::partner_is_over(World& world, Output& out) {
  auto verdict = world.verdict(out.now());
  if (verdict != Verdict::gone && verdict != Verdict::dead) return false;
  close_window(out);
  return true;
}

bool Takeover::settle_warming(World& world, Output& out) {
  if (partner_is_over(world, out)) return true;
  if (std::get<Warming>(state_).until > out.now()) return false;
  out.log(Severity::warning, "takeover.not_prepared", "the engine does not answer");
  if (order_.overridden(Reason::not_prepared)) {
    count_down(world, out);
  } else {
    give_up(Answer::failed, Reason::not_prepared, world, out);
  }
  return true;
}

void Takeover::count_down(World& world, Output& out) {
  ++world.progress;
  auto time = std::clamp(order_.countdown, min_countdown, max_countdown);
  out.log(Severity::notice, "takeover.counting_down",
          "the partner has " + std::to_string(time / milliseconds(1)) + " ms to hand over");
  state_ = CountingDown{out.now() + time, out.now()};
}

bool Takeover::settle_counting_down(World& world, Output& out) {
  auto now = out.now();
  if (partner_is_over(world, out)) return true;
  auto& s = std::get<CountingDown>(state_);
  if (s.ends <= now) {
    MARK(takeover_countdown_over);
    end_countdown(world, out);
    return true;
  }
  if (s.send_at > now) return false;
  s.send_at = now + please_interval;
  auto left = static_cast<std::uint32_t>((s.ends - now) / milliseconds(1));
  world.send(PleaseShutdown{.left_ms = left, .attempt = attempt_}, world.monitor.nonce(), out);
  return false;
}

void Takeover::end_countdown(World& world, Output& out) {
  out.log(Severity::warning, "takeover.forced_shutdown", "the partner did not leave in time");
  world.send(ForcedTakeover{attempt_}, world.monitor.nonce(), out);
  close_window(out);
}

void Takeover::on_declined(const ShutdownDeclined& declined, World& world, Output& out) {
  auto why = static_cast<Reason>(declined.reason);
  if (declined.attempt == 0) {  // it asked for this takeover, and does not want it any more
    if (graceful() && order_.asked != 0) give_up(Answer::failed, why, world, out);
    return;
  }
  if (declined.attempt != attempt_) return;
  if (auto* s = std::get_if<Cancelling>(&state_)) {
    auto request = s->request;
    give_up(Answer::failed, Reason::cancelled, world, out);
    out.act(OperatorAnswer{request, Answer::done, {}});
    return;
  }
  if (!counting_down()) return;
  out.log(Severity::warning, "takeover.declined", std::string(sentence(why)));
  if (why == Reason::hand_over_failed && order_.overridden(why)) return end_countdown(world, out);
  give_up(Answer::failed, why, world, out);
}

Reason Takeover::cancel(std::uint64_t request, World& world, Output& out) {
  if (!graceful()) return idle() ? Reason::no_takeover_under_way : Reason::too_late;
  out.act(OperatorAnswer{request, Answer::accepted, {}});
  if (counting_down()) {
    state_ = Cancelling{out.now() + cancel_limit, out.now(), request};
    return Reason::none;
  }
  give_up(Answer::failed, Reason::cancelled, world, out);
  out.act(OperatorAnswer{request, Answer::done, {}});
  return Reason::none;
}

bool Takeover::settle_cancelling(World& world, Output& out) {
  auto& s = std::get<Cancelling>(state_);
  auto request = s.request;
  if (partner_is_over(world, out)) {
    MARK(takeover_cancel_too_late);
    out.act(OperatorAnswer{request, Answer::refused, {std::string(sentence(Reason::too_late))}});
    return true;
  }
  if (s.until <= out.now()) {
    // It does not answer; without our please shutdown it serves on, or it will be found gone.
    give_up(Answer::failed, Reason::cancelled, world, out);
    out.act(OperatorAnswer{request, Answer::done, {std::string(sentence(Reason::no_answer))}});
    return true;
  }
  if (s.send_at > out.now()) return false;
  s.send_at = out.now() + please_interval;
  world.send(CancelShutdown{attempt_}, world.monitor.nonce(), out);
  return false;
}

void Takeover::forgive(Duration gap) {
  if (auto* s = std::get_if<CountingDown>(&state_)) s->ends += gap;
}

std::optional<Instant> Takeover::countdown_ends() const {
  auto* s = std::get_if<CountingDown>(&state_);
  return s != nullptr ? std::optional(s->ends) : std::nullopt;
}

}  // namespace duet::ha
