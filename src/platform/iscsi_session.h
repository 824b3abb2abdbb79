// One iSCSI session as an initiator, through libiscsi's asynchronous API on our event loop. It logs
// in with a pinned ISID and, when the session is lost, logs in again for ever; the target then sees
// the same nexus, so registrations stay ours.
//
// libiscsi's own reconnect is off: it repeats commands by itself. Here every command in flight ends
// with `disconnected`, and what to do about it is the owner's decision.
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "initiator/scsi_verdict.h"
#include "platform/event_loop.h"

struct iscsi_context;
struct scsi_task;

namespace duet::platform {

// Which of the ports of an initiator: with its name, the identity of the nexus. Two sessions with
// one name and one Isid throw each other out.
struct Isid {
  std::uint8_t node = 0;
  std::uint8_t role = 0;   // disk::KeyRole, or whatever tells the processes of a node apart
  std::uint8_t path = 0;   // of several paths of one process
  std::uint16_t unit = 0;  // LUN, or discovery_unit
};
inline constexpr std::uint16_t discovery_unit = 0xffff;

struct IscsiSessionOptions {
  std::string portal;     // numeric address and port: "127.0.0.1:3260", "[::1]:3260"
  std::string target;     // iSCSI name
  std::string initiator;  // iSCSI name
  Isid isid;
  Duration connect_timeout = seconds(1);
  Duration login_timeout = seconds(1);
  Duration backoff_min = milliseconds(20);  // between attempts; doubles up to backoff_max
  Duration backoff_max = milliseconds(500);
};

struct ScsiTaskDeleter {
  void operator()(scsi_task* task) const;
};
using ScsiTask = std::unique_ptr<scsi_task, ScsiTaskDeleter>;

// What is to be sent. `task` comes from libiscsi's scsi_cdb_*.
struct ScsiCommand {
  ScsiTask task;
  std::vector<Slice> data_out;  // gathered without a copy; kept alive until it has left
  MutableBytes data_in;         // received straight into it; empty: into ScsiReply::data_in
};
struct ScsiReply {
  initiator::ScsiStatus status;
  Bytes data_in;                    // valid during the callback
  std::size_t data_in_missing = 0;  // residual underflow, bytes
};

class IscsiSession {
 public:
  using Done = std::move_only_function<void(Result<ScsiReply>)>;

  IscsiSession(EventLoop& loop, IscsiSessionOptions options);
  // Commands in flight are given up without a word.
  ~IscsiSession();
  IscsiSession(const IscsiSession&) = delete;
  IscsiSession& operator=(const IscsiSession&) = delete;

  // `callback` hears every change of logged_in(). Error: invalid (the portal is not numeric).
  Status start(std::move_only_function<void(bool logged_in)> callback);
  bool logged_in() const { return logged_in_; }

  // Ends with the disk's reply, `disconnected`, or `timed_out` at `deadline`: then the session is
  // given up with all its commands and made anew, because only that ends a command for certain.
  // Commands of one turn of the loop leave together at its end.
  void submit(unsigned lun, ScsiCommand command, Instant deadline, Done done);

  // Gives the session up and makes it anew; `why` is for people.
  void reset(const std::string& why);
  // The owner is content with the session: the next loss starts again with the shortest backoff.
  void settled() { backoff_ = options_.backoff_min; }

  const std::string& last_error() const { return last_error_; }  // why it is or was not logged in

  // Write data of commands that failed may still be in libiscsi's queue; more of it ends the
  // session.
  static constexpr std::size_t max_unsent = 256;

 private:
  struct Command;
  struct Callbacks;

  void connect();
  void begin_login();
  void finish_login();
  void watch();
  void flush();
  void on_ready(int events);
  void step(int events);
  void update_interest();
  void lose(const std::string& why);
  void tear_down();
  void retry_later();
  void on_reply(Command& command, int status);
  void arm_deadline(Instant when);
  void on_deadline();
  void complete(std::move_only_function<void()> completion);
  void deliver();

  EventLoop& loop_;
  IscsiSessionOptions options_;
  std::move_only_function<void(bool)> on_state_;
  iscsi_context* context_ = nullptr;
  std::unique_ptr<FdWatcher> watcher_;
  bool logged_in_ = false;
  bool in_library_ = false;  // inside a call of libiscsi that calls back: the context must stay
  bool lost_ = false;        // to be torn down as soon as the library has returned
  bool flush_scheduled_ = false;
  bool delivering_ = false;
  bool delivery_posted_ = false;
  std::string last_error_;
  std::string reported_error_;  // the last one written to the log
  Duration backoff_;
  ports::TimerId phase_timer_;     // connect, login, or waiting to try again
  ports::TimerId deadline_timer_;  // of the commands in flight
  Instant deadline_ = Instant::max();
  std::list<std::unique_ptr<Command>> in_flight_;
  std::vector<std::unique_ptr<Command>> unsent_;
  std::deque<std::move_only_function<void()>> completions_;
  std::shared_ptr<char> alive_ = std::make_shared<char>();
};

// The LUNs behind a portal: logs in, asks, and ends. Destroying it gives up.
class LunDiscovery {
 public:
  // Errors: those of the session after `limit` (disconnected, timed_out), or invalid.
  LunDiscovery(EventLoop& loop, IscsiSessionOptions options, Duration limit,
               std::move_only_function<void(Result<std::vector<LunNumber>>)> done);
  ~LunDiscovery();

 private:
  void ask();
  void finish(Result<std::vector<LunNumber>> result);

  EventLoop& loop_;
  Instant limit_;
  ports::TimerId timer_;
  std::move_only_function<void(Result<std::vector<LunNumber>>)> done_;
  IscsiSession session_;
};

}  // namespace duet::platform
