#include "simulator/client.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace duet::simulator {
namespace {

ClientSession::Initiator initiator(const Client::Options& options) {
  return {.name = fmt::format("iqn.2026-11.com.example:host-{}", options.number),
          .isid = {0x80, 0x12, 0x34, 0x56, static_cast<std::uint8_t>(options.number >> 8),
                   static_cast<std::uint8_t>(options.number)},
          .immediate_data = options.immediate_data,
          .patience = options.patience};
}

}  // namespace

Client::Client(ports::Scheduler& scheduler, ClientNetwork& network, History& history,
               const std::vector<std::unique_ptr<SharedLun>>& luns, Options options,
               Violate violate)
    : scheduler_(scheduler),
      history_(history),
      luns_(luns),
      options_(std::move(options)),
      violate_(std::move(violate)),
      random_(options_.seed),
      nexus_{initiator(options_).name, initiator(options_).isid, 1},
      session_(scheduler, network, options_.target, initiator(options_), *this) {}

Client::~Client() {
  *alive_ = false;
}

void Client::after(Duration wait, std::function<void()> what) {
  scheduler_.at(scheduler_.now() + wait, [alive = alive_, what = std::move(what)] {
    if (*alive) what();
  });
}

void Client::start() {
  ASSERT(!luns_.empty() && session_.closed());
  session_.open();
  for (unsigned slot = 0; slot < options_.depth; ++slot) rest(true);
  watch_commands();
}

void Client::stop() {
  stopped_ = true;
}

void Client::sweep() {
  ASSERT(stopped_);
  for (const auto& lun : luns_) {
    for (std::uint64_t zone = 0; zone < 3; ++zone) {
      ++under_way_;
      to_send_.push_back(read(*lun, zone_start(*lun, zone), zone_blocks));
    }
  }
  pump();
}

std::string Client::waits_for() const {
  if (quiet()) return {};
  return fmt::format("client {} waits for {} commands of identity {}, {} of them sent, session {}",
                     options_.number, under_way_, options_.identity.value(), sent_.size(),
                     session_.ready() ? "up" : "down");
}

// A slot is idle for a while, then takes the next command.
void Client::rest(bool stagger) {
  const auto mean = static_cast<std::uint64_t>(options_.pause.count());
  const Duration pause(
      static_cast<Duration::rep>(random_.below(stagger ? mean + 1 : 2 * mean + 1)));
  after(pause, [this] {
    if (stopped_) return;
    CommandPtr command = choose();
    command->of_slot = true;
    ++under_way_;
    to_send_.push_back(std::move(command));
    pump();
  });
}

// ---- sending ----

void Client::pump() {
  while (!to_send_.empty() && !leaving_ && session_.window_open()) {
    CommandPtr command = std::move(to_send_.front());
    to_send_.pop_front();
    send(command);
  }
}

void Client::send(const CommandPtr& command) {
  const Instant now = scheduler_.now();
  ASSERT(!command->attempt);
  switch (command->kind) {
    case Kind::read:
      command->attempt = history_.begin_read(options_.number, command->range, now);
      break;
    case Kind::write:
    case Kind::zero:
      command->attempt = history_.begin_write(options_.number, command->range, command->value, now);
      break;
    case Kind::compare_and_write:
      command->attempt = history_.begin_compare_and_write(options_.number, command->range,
                                                          command->expected, command->value, now);
      break;
    case Kind::reserve_out:
      command->lun->reservations->attempt();
      break;
    case Kind::test_ready:
    case Kind::serial:
    case Kind::flush:
    case Kind::reserve_in:
      break;
  }
  if (command->lun->reservations) command->since = command->lun->reservations->version();
  // The state before an attempt of ours was possible, too.
  if (command->kind == Kind::reserve_out && command->since > 0) --command->since;
  command->sent_at = now;
  sent_.emplace(session_.send(command->request), command);
}

Duration Client::back_off(Command& command) {
  const unsigned doubled = std::min(command.failures++, 6u);
  const Duration most = std::min(shortest_wait * (1 << doubled), longest_wait);
  return most / 2 + Duration(static_cast<Duration::rep>(
                        random_.below(static_cast<std::uint64_t>(most.count()) / 2)));
}

void Client::retry(const CommandPtr& command, Duration wait) {
  ++counters_.retries;
  after(wait, [this, command] {
    to_send_.push_back(command);
    pump();
  });
}

void Client::finished(const CommandPtr& command) {
  ASSERT(under_way_ > 0);
  --under_way_;
  if (command->of_slot && !stopped_) rest(false);
  if (leaving_ && sent_.empty()) leave();
}

// ---- sessions ----

void Client::on_ready() {
  ++counters_.sessions;
  connect_wait_ = shortest_wait;
  const Instant now = scheduler_.now();
  for (AttemptId attempt : std::exchange(perhaps_, {})) history_.given_up(attempt, now);
  for (auto lun = luns_.rbegin(); lun != luns_.rend(); ++lun) {
    under_way_ += 2;
    to_send_.push_front(serial(**lun));
    to_send_.push_front(make(Kind::test_ready, **lun));
  }
  pump();
}

void Client::on_answer(std::uint32_t tag, ClientSession::Answer&& answer) {
  auto found = sent_.find(tag);
  ASSERT(found != sent_.end());
  const CommandPtr command = std::move(found->second);
  sent_.erase(found);
  judge(command, answer);
  if (leaving_ && sent_.empty()) leave();
  pump();
}

void Client::on_end(ClientSession::End end, const std::string& why, Duration wait) {
  leaving_ = false;
  if (end == ClientSession::End::forbidden) {
    violate_("I18", fmt::format("client {} is told never to come back: {}", options_.number, why));
  }
  // All that had no answer goes out again, before anything new, in the old order.
  for (auto it = sent_.rbegin(); it != sent_.rend(); ++it) {
    const CommandPtr& command = it->second;
    uncertain(*command);
    if (command->kind == Kind::test_ready || command->kind == Kind::serial) {
      --under_way_;  // the next session has its own
      continue;
    }
    ++counters_.retries;
    to_send_.push_front(command);
  }
  sent_.clear();
  std::erase_if(to_send_, [this](const CommandPtr& command) {
    const bool of_session = command->kind == Kind::test_ready || command->kind == Kind::serial;
    if (of_session) --under_way_;
    return of_session;
  });
  reconnect(wait);
}

void Client::reconnect(Duration wait) {
  const Duration jitter(
      static_cast<Duration::rep>(random_.below(static_cast<std::uint64_t>(connect_wait_.count()))));
  after(wait + connect_wait_ / 2 + jitter, [this] {
    if (session_.closed()) session_.open();
  });
  connect_wait_ = std::min(connect_wait_ * 2, longest_wait);
}

// A command that another client's PREEMPT AND ABORT has ended is never answered.
void Client::watch_commands() {
  if (!sent_.empty() &&
      scheduler_.now() - sent_.begin()->second->sent_at > options_.command_limit) {
    session_.drop();
    on_end(ClientSession::End::lost, "a command has no answer", {});
  }
  after(options_.command_limit / 4, [this] { watch_commands(); });
}

void Client::on_logout_requested(Duration within) {
  ++counters_.logouts_asked;
  if (leaving_) return;
  leaving_ = true;
  // Commands under way may end first; half of the time that is left must do.
  const Duration patience = options_.leaves_in_order ? within / 2 : Duration{};
  if (sent_.empty()) return leave();
  after(patience, [this, sessions = counters_.sessions] {
    if (leaving_ && sessions == counters_.sessions) leave();
  });
}

void Client::leave() {
  if (!session_.ready()) return;
  if (options_.leaves_in_order) return session_.log_out();
  session_.drop();
  on_end(ClientSession::End::lost, "asked to log out, dropped", {});
}

}  // namespace duet::simulator
