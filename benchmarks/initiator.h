// One iSCSI session of a load program, over libiscsi, without blocking and without libiscsi's own
// reconnect: who uses it polls fd() for events(), calls service(), and bounds the time of
// everything.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

struct iscsi_context;
struct scsi_task;

namespace duet::load {

struct Url {
  std::string portal;
  std::string target;
  int lun = 0;
};
// iscsi://HOST:PORT/IQN/LUN. Error: invalid.
Result<Url> parse_url(const std::string& text);

// What an initiator makes of the outcome of a command.
enum class Outcome : std::uint8_t {
  good,
  unit_attention,  // retry at once
  busy,            // BUSY, TASK SET FULL, ABORTED, NOT READY 02/04/0A: retry a little later
  failed,          // a real initiator would hand this up as an I/O error
};

struct Reply {
  Outcome outcome = Outcome::failed;
  std::string_view what;  // for people; valid during the call only
};
using Completion = std::function<void(const Reply&)>;

struct Capacity {
  std::uint64_t blocks = 0;
  std::uint32_t block_size = 0;  // bytes
};

class Session {
 public:
  enum class State : std::uint8_t { closed, connecting, logging_in, ready, lost };

  // `initiator` and `isid` stay the same for every login, so that a new session replaces the old
  // one at the target (RFC 7143 section 6.3.5) instead of leaving its commands running.
  Session(Url url, std::string initiator, std::uint32_t isid);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void open();   // state() goes connecting, logging_in, ready; lost on any failure
  void close();  // at once; completions of outstanding commands are never called
  State state() const { return state_; }
  const std::string& why_lost() const { return why_; }

  int fd() const;
  short events() const;
  void service(short revents);

  // Requires: ready; `buffer` lives until the completion or close(); whole blocks.
  void read(std::uint64_t lba, MutableBytes buffer, std::uint32_t block_size, Completion done);
  void write(std::uint64_t lba, Bytes buffer, std::uint32_t block_size, Completion done);
  void read_capacity(std::function<void(const Reply&, Capacity)> done);
  // Sends a logout and serves the session until it is answered or `patience` has passed; then
  // closed.
  void log_out(int patience_ms);

  const Url& url() const { return url_; }

 private:
  struct Command;
  void lose(std::string why);
  Command* add(Command command);
  void queued(scsi_task* task, Command* command);  // null: libiscsi did not take it
  static void on_connected(iscsi_context*, int status, void*, void* self);
  static void on_logged_in(iscsi_context*, int status, void*, void* self);
  static void on_done(iscsi_context*, int status, void* task, void* command);

  Url url_;
  std::string initiator_;
  std::uint32_t isid_;
  iscsi_context* context_ = nullptr;
  std::list<std::unique_ptr<Command>> outstanding_;
  State state_ = State::closed;
  bool closing_ = false;
  std::string why_;
};

}  // namespace duet::load
