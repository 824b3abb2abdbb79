// The verifying load on one LUN: every interval a stamped 4 KiB write and its read-back, one
// command at a time, each with a deadline. Whatever goes wrong drops the session and logs in again.
// A write without an answer is tried again under a new sequence, so an abandoned attempt that lands
// late over an acknowledged one shows as lost. A block is not written again before all others; and
// then only after its old content was verified.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "initiator.h"
#include "stamp.h"

namespace duet::load {

struct LoadOptions {
  Duration interval = milliseconds(5);
  Duration deadline = milliseconds(250);        // of one command, of the connect, and of the login
  Duration reconnect_pause = milliseconds(20);  // between two tries
  Duration busy_pause = milliseconds(5);        // before a command is sent again after BUSY
  Duration gap_threshold = milliseconds(20);    // longer pauses go into the log
  Duration finish_limit = seconds(30);          // for the last command, and then for the read-back
  std::uint64_t blocks = 0;                     // of the LUN to use; 0: all, at most max_blocks
};
inline constexpr std::uint64_t max_blocks = std::uint64_t{1} << 22;  // 16 GiB of a LUN
inline constexpr std::size_t verify_blocks = 32;        // blocks of one read at the end
inline constexpr std::uint64_t max_logged_errors = 50;  // of a kind; all are counted
inline constexpr std::uint64_t max_logged_tries = 3;    // of one outage

struct Counters {
  std::uint64_t ops = 0;  // completed reads and writes
  std::uint64_t gaps = 0;
  std::uint64_t timeouts = 0;
  std::uint64_t busy = 0;
  std::uint64_t reconnects = 0;  // sessions after the first
  std::uint64_t failed_connects = 0;
  std::uint64_t hard_errors = 0;
  std::uint64_t bad_reads = 0;
  std::uint64_t verified = 0;
  std::uint64_t lost = 0;
  std::uint64_t unverified = 0;  // acknowledged blocks that could not be read in time
  bool clean() const { return hard_errors == 0 && bad_reads == 0 && lost == 0 && unverified == 0; }
};

// Takes finished JSON lines.
using LineSink = std::function<void(const std::string& line)>;
std::string json_string(std::string_view text);  // with the quotes

class LunLoad {
 public:
  LunLoad(std::uint32_t number, const Url& url, const LoadOptions& options, std::uint64_t run,
          LineSink log);

  // Does what is due; to be called after every poll.
  void step(Instant now);
  Instant next_step() const { return next_step_; }
  Session& session() { return session_; }

  // No new writes: finishes the current one, reads back every acknowledged block, logs out.
  void finish(Instant now);
  bool finished() const { return phase_ == Phase::finished; }

  bool flowing() const { return counters_.ops > 0; }
  Instant last_completion() const { return last_completion_; }
  const Counters& counters() const { return counters_; }
  Duration longest_gap() const { return longest_gap_; }
  // The longest pause since the window began, a running one included. Starts the next window.
  Duration end_window(Instant now);

 private:
  enum class Phase : std::uint8_t {
    offline,       // next try at next_step_
    connecting,    // deadline at next_step_
    sizing,        // READ CAPACITY of the first session
    idle,          // next write at next_step_
    checking_old,  // before a block is used again
    writing,
    reading_back,
    verifying,
    finished,
  };

  void on_session(Instant now);
  void on_outcome(Instant now);
  void on_good(Instant now);
  void drop(Instant now, const std::string& why);
  void begin(Instant now);  // the next cycle, or the verification
  void send(Phase phase, Instant now);
  void begin_verification(Instant now);
  void verify_next(Instant now);
  void verify(std::uint64_t block, Bytes bytes);
  void give_up();
  void completed(Instant now);
  void event(std::string_view name, Instant at, const std::string& fields);
  Stamp stamp(std::uint64_t block, std::uint64_t sequence) const {
    return {run_, number_, block, sequence};
  }
  Bytes at(std::size_t n) const { return Bytes(buffer_).subspan(n * block_size, block_size); }

  const std::uint32_t number_;
  const LoadOptions options_;
  const std::uint64_t run_;
  LineSink log_;
  Session session_;
  Counters counters_;

  Phase phase_ = Phase::offline;
  Phase resume_ = Phase::sizing;  // what an interrupted session goes on with
  bool logging_in_ = false;
  bool in_flight_ = false;
  bool answered_ = false;
  Outcome outcome_ = Outcome::failed;
  std::string what_;
  Capacity capacity_;
  bool stopping_ = false;
  Instant stop_limit_{};
  Instant next_step_{};
  Instant next_write_{};
  Instant session_lost_{};
  std::uint64_t tries_ = 0;

  std::vector<std::uint64_t> acked_;  // sequence each block was last acknowledged with; 0: none
  std::uint64_t cycle_ = 0;           // writes begun
  std::uint64_t block_ = 0;           // of the current write, or the next to verify
  std::size_t chunk_ = 0;             // blocks of the current verifying read
  std::uint64_t sequence_ = 0;
  std::vector<std::byte> buffer_;

  Instant last_completion_{};
  Duration longest_gap_{};
  Duration longest_in_window_{};
};

}  // namespace duet::load
