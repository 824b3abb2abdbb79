#include "lun_load.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "boot_clock.h"

namespace duet::load {

std::string json_string(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

LunLoad::LunLoad(std::uint32_t number, const Url& url, const LoadOptions& options,
                 std::uint64_t run, LineSink log)
    : number_(number),
      options_(options),
      run_(run),
      log_(std::move(log)),
      session_(url, fmt::format("iqn.2026-11.org.duet:load.{:016x}", run),
               static_cast<std::uint32_t>(run & 0xffffff) ^ number),
      buffer_(verify_blocks * block_size) {}

void LunLoad::event(std::string_view name, Instant at, const std::string& fields) {
  log_(fmt::format(R"({{"event":"{}","t":{},"lun":{}{}{}}})", name, ns(at), number_,
                   fields.empty() ? "" : ",", fields));
}

void LunLoad::step(Instant now) {
  if (phase_ == Phase::finished) return;
  if (stopping_ && now >= stop_limit_) {
    if (resume_ == Phase::verifying) return give_up();
    // The write in flight stays unanswered; its block counts as never acknowledged.
    drop(now, "the last command took too long");
    begin_verification(now);
  }
  if (phase_ == Phase::offline) {
    if (now < next_step_) return;
    ++tries_;
    session_.open();
    logging_in_ = false;
    phase_ = Phase::connecting;
    next_step_ = now + options_.deadline;
  }
  if (session_.state() == Session::State::lost) return drop(now, session_.why_lost());
  if (phase_ == Phase::connecting) return on_session(now);
  if (in_flight_ && answered_) return on_outcome(now);
  if (now < next_step_) return;
  if (in_flight_) {
    ++counters_.timeouts;
    return drop(now, fmt::format("no answer within {:.0f} ms", ms(options_.deadline)));
  }
  if (phase_ == Phase::idle) return begin(now);
  send(phase_, now);  // after a pause for BUSY
}

void LunLoad::on_session(Instant now) {
  if (session_.state() != Session::State::ready) {
    if (session_.state() == Session::State::logging_in && !logging_in_) {
      logging_in_ = true;
      next_step_ = now + options_.deadline;
    }
    if (now >= next_step_) drop(now, "no session within the deadline");
    return;
  }
  if (resume_ != Phase::sizing) {
    ++counters_.reconnects;
    event("connected", now,
          fmt::format(R"("tries":{},"after_ms":{:.1f})", tries_, ms(now - session_lost_)));
  }
  tries_ = 0;
  if (resume_ == Phase::verifying) return verify_next(now);
  send(resume_, now);
}

void LunLoad::drop(Instant now, const std::string& why) {
  if (phase_ == Phase::connecting) {
    ++counters_.failed_connects;
    if (tries_ <= max_logged_tries) {
      event("connect_failed", now, fmt::format(R"("why":{})", json_string(why)));
    }
  } else if (phase_ != Phase::offline) {
    session_lost_ = now;
    event("disconnected", now, fmt::format(R"("why":{})", json_string(why)));
  }
  session_.close();
  in_flight_ = false;
  answered_ = false;
  phase_ = Phase::offline;
  next_step_ = now + options_.reconnect_pause;
}

void LunLoad::begin(Instant now) {
  if (stopping_) {
    begin_verification(now);
    return verify_next(now);
  }
  // A late cycle is not made up for: the load stays at one write per interval.
  next_write_ = std::max(next_write_ + options_.interval, now);
  block_ = cycle_++ % acked_.size();
  send(acked_[block_] != 0 ? Phase::checking_old : Phase::writing, now);
}

void LunLoad::send(Phase phase, Instant now) {
  phase_ = resume_ = phase;
  if (phase == Phase::idle) return begin(now);
  in_flight_ = true;
  answered_ = false;
  next_step_ = now + options_.deadline;
  const auto done = [this](const Reply& reply) {
    answered_ = true;
    outcome_ = reply.outcome;
    if (reply.outcome != Outcome::good) what_ = reply.what;
  };
  if (phase == Phase::sizing) {
    return session_.read_capacity([this, done](const Reply& reply, Capacity capacity) {
      capacity_ = capacity;
      done(reply);
    });
  }
  const std::uint64_t lba = block_ * (block_size / capacity_.block_size);
  const auto first = MutableBytes(buffer_).first(block_size);
  if (phase == Phase::writing) {
    acked_[block_] = 0;
    fill(first, stamp(block_, ++sequence_));
    session_.write(lba, first, capacity_.block_size, done);
  } else {
    const std::size_t count = phase == Phase::verifying ? chunk_ : 1;
    session_.read(lba, MutableBytes(buffer_).first(count * block_size), capacity_.block_size, done);
  }
}

void LunLoad::on_outcome(Instant now) {
  in_flight_ = answered_ = false;
  switch (outcome_) {
    case Outcome::good:
      return on_good(now);
    case Outcome::unit_attention:
      event("unit_attention", now, fmt::format(R"("why":{})", json_string(what_)));
      return send(phase_, now);
    case Outcome::failed:
      if (++counters_.hard_errors <= max_logged_errors) {
        event("hard_error", now, fmt::format(R"("block":{},"why":{})", block_, json_string(what_)));
      }
      break;
    case Outcome::busy:
      ++counters_.busy;
      break;
  }
  next_step_ = now + options_.busy_pause;  // the same command again then
}

void LunLoad::on_good(Instant now) {
  switch (phase_) {
    case Phase::sizing: {
      const std::uint64_t size = capacity_.blocks * capacity_.block_size / block_size;
      if (capacity_.block_size == 0 || block_size % capacity_.block_size != 0 || size == 0) {
        ++counters_.hard_errors;
        event("hard_error", now, R"("why":"the LUN has no use for 4 KiB blocks")");
        session_.close();
        phase_ = Phase::finished;
        return;
      }
      acked_.resize(std::min({size, max_blocks, options_.blocks == 0 ? size : options_.blocks}));
      return send(Phase::idle, now);
    }
    case Phase::checking_old:
      completed(now);
      verify(block_, at(0));
      return send(Phase::writing, now);
    case Phase::writing:
      completed(now);
      acked_[block_] = sequence_;
      return send(Phase::reading_back, now);
    case Phase::reading_back:
      completed(now);
      if (!holds(at(0), stamp(block_, sequence_)) && ++counters_.bad_reads <= max_logged_errors) {
        event("bad_read", now,
              fmt::format(R"("block":{},"sequence":{},"holds":{})", block_, sequence_,
                          json_string(load::describe(at(0)))));
      }
      phase_ = resume_ = Phase::idle;
      next_step_ = stopping_ ? now : next_write_ + options_.interval;
      if (now >= next_step_) begin(now);
      return;
    case Phase::verifying:
      for (std::size_t i = 0; i < chunk_; ++i, ++block_) {
        if (acked_[block_] != 0) verify(block_, at(i));
      }
      return verify_next(now);
    case Phase::offline:
    case Phase::connecting:
    case Phase::idle:
    case Phase::finished:
      break;
  }
  ASSERT(false);
}

void LunLoad::completed(Instant now) {
  ++counters_.ops;
  if (last_completion_ != Instant{}) {
    const Duration gap = now - last_completion_;
    longest_gap_ = std::max(longest_gap_, gap);
    longest_in_window_ = std::max(longest_in_window_, gap);
    if (gap > options_.gap_threshold) {
      ++counters_.gaps;
      event("gap", now,
            fmt::format(R"("start":{},"end":{},"ms":{:.3f})", ns(last_completion_), ns(now),
                        ms(gap)));
    }
  }
  last_completion_ = now;
}

Duration LunLoad::end_window(Instant now) {
  const Duration running = last_completion_ == Instant{} ? Duration{} : now - last_completion_;
  return std::max(std::exchange(longest_in_window_, Duration{}), running);
}

void LunLoad::verify(std::uint64_t block, Bytes bytes) {
  if (holds(bytes, stamp(block, acked_[block]))) {
    ++counters_.verified;
  } else if (++counters_.lost <= max_logged_errors) {
    event("lost", now(),
          fmt::format(R"("block":{},"sequence":{},"holds":{})", block, acked_[block],
                      json_string(load::describe(bytes))));
  }
}

void LunLoad::finish(Instant now) {
  if (stopping_) return;
  stopping_ = true;
  stop_limit_ = now + options_.finish_limit;
  if (phase_ == Phase::idle) next_step_ = now;
}

void LunLoad::begin_verification(Instant now) {
  resume_ = Phase::verifying;
  block_ = 0;
  stop_limit_ = now + options_.finish_limit;
}

void LunLoad::give_up() {
  for (; block_ < acked_.size(); ++block_) counters_.unverified += acked_[block_] != 0 ? 1 : 0;
  session_.close();
  phase_ = Phase::finished;
}

void LunLoad::verify_next(Instant now) {
  while (block_ < acked_.size() && acked_[block_] == 0) ++block_;
  if (block_ >= acked_.size()) {
    session_.log_out(200);
    phase_ = Phase::finished;
    return;
  }
  chunk_ = std::min<std::uint64_t>(verify_blocks, acked_.size() - block_);
  send(Phase::verifying, now);
}

}  // namespace duet::load
