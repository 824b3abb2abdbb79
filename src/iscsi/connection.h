// One iSCSI connection and its session, target side, sans-I/O (RFC 7143; error recovery level 0,
// one connection per session). Bytes and answers in, bytes and orders out. Open this header first.
//
//   login ──► admission ──on_admitted──► full_feature ──logout, violation, silence──► closed
//     └── violation, on_refused, login_timeout ─────────────────────────────────────────^
// In admission the server ends an older session of the same nexus before it admits the new one.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "iscsi/login.h"
#include "iscsi/receiver.h"
#include "iscsi/sender.h"
#include "iscsi/session.h"
#include "iscsi/stored_request.h"
#include "iscsi/task.h"

namespace duet::iscsi {

// ---- orders: performed in order, after `Actions::send` has been handed to the transport ----

// A login is complete but for on_admitted or on_refused.
struct AdmitSession {};
// A command for a logical unit; nothing in `lun`: an address that no unit can have. Each is
// answered by one on_response or on_aborted, closed connection or not.
struct SubmitCommand {
  std::optional<LunNumber> lun;
  scsi::Command command;
};
// Answered by on_task_management_done. `task` with abort_task.
struct ManageTasks {
  std::uint32_t request = 0;
  scsi::TaskManagement function{};
  std::optional<LunNumber> lun;
  std::optional<scsi::CommandTag> task;
};
// No more bytes are sent or taken. `flush`: what was sent before still leaves.
struct Close {
  bool flush = false;
};
using Order = std::variant<AdmitSession, SubmitCommand, ManageTasks, Close>;

struct Actions {
  std::vector<Slice> send;
  std::vector<Order> orders;
};

class Connection {
 public:
  enum class Phase : std::uint8_t { login, admission, full_feature, closed };

  // `number` makes command tags unique over all connections: its high 32 bits. `directory` outlives
  // us.
  Connection(std::uint32_t number, const TargetDirectory& directory, std::uint16_t portal_group_tag,
             std::uint16_t relative_target_port, Instant now);
  // Goes on with a session in its full feature phase, with no command under way.
  Connection(std::uint32_t number, const TargetDirectory& directory, SessionState session,
             Instant now);

  MutableBytes receive_buffer();
  // Requires: size bytes are in receive_buffer().
  void on_received(std::size_t size, Instant now, Actions& actions);

  // Requires: admission. The session handle must not be 0.
  void on_admitted(std::uint16_t tsih, Actions& actions);
  void on_refused(LoginStatus status, Actions& actions);
  void on_response(scsi::CommandTag tag, scsi::Response&& response, Actions& actions);
  void on_aborted(scsi::CommandTag tag, Actions& actions);
  void on_task_management_done(std::uint32_t request, TaskManagementResult result,
                               Actions& actions);
  // To be called about every second: login timeout, pings, dead initiators.
  void on_tick(Instant now, Actions& actions);
  // Asks the initiator to log out and come back; after logout_request_timeout the connection
  // closes.
  void request_logout(Instant now, Actions& actions);

  // ---- planned end of service ----
  // From here on no command goes to a unit and no data is asked for: what is received waits.
  // Requests that need no unit are answered. Ends with resume(), or with the connection.
  void hold() { held_ = true; }
  void resume(Actions& actions);
  // The commands that wait, in the order of their arrival.
  std::vector<StoredRequest> waiting_requests();
  // Tells the initiator that its session goes and that it may come back with a new one at once. The
  // caller closes.
  void announce_drop(Actions& actions);
  // The transport is gone: nothing is sent any more.
  void on_transport_closed();

  Phase phase() const { return phase_; }
  // Known from admission on.
  const SessionState& session() const { return session_; }
  // No command is under way and nothing half received: session() is the whole truth.
  bool at_boundary() const;
  std::size_t commands_at_unit() const { return at_unit_; }

 private:
  struct PendingManagement {
    std::uint32_t request = 0;
    std::uint32_t initiator_task_tag = 0;
  };

  // connection.cc
  void process(Actions& actions);
  void on_pdu(ReceivedPdu& pdu, Actions& actions);
  void on_login(const LoginRequest& request, const ReceivedPdu& pdu, Actions& actions);
  void send_login(LoginResponse response, const std::string& text, Actions& actions);
  void reject(RejectReason reason, Header header, Actions& actions);
  void close(bool flush, Actions& actions);
  AnswerNumbers numbers(bool with_status);
  void ping(Actions& actions);
  bool in_window(const CommandNumbers& numbers, Header header, Actions& actions);

  // connection_requests.cc
  void on_request(const NopOut& request, ReceivedPdu& pdu, Actions& actions);
  void on_request(const TaskManagementRequest& request, ReceivedPdu& pdu, Actions& actions);
  void on_request(const LoginRequest& request, ReceivedPdu& pdu, Actions& actions);
  void on_request(const TextRequest& request, ReceivedPdu& pdu, Actions& actions);
  void on_request(const LogoutRequest& request, ReceivedPdu& pdu, Actions& actions);
  void on_request(const Snack& request, ReceivedPdu& pdu, Actions& actions);
  std::string answer_text(const std::vector<KeyValue>& pairs);
  std::string send_targets(const std::string& value) const;
  void send_text(const TextRequest& request, Actions& actions);
  void manage(const TaskManagementRequest& request, scsi::TaskManagement function,
              Actions& actions);
  void answer_management(std::uint32_t initiator_task_tag, TaskManagementResult result,
                         Actions& actions);
  void drop_collecting(std::optional<std::uint64_t> lun_field, Actions& actions);

  // connection_commands.cc
  void on_request(const ScsiCommand& request, ReceivedPdu& pdu, Actions& actions);
  void on_request(const DataOut& request, ReceivedPdu& pdu, Actions& actions);
  void take_immediate_data(Task& task, const ScsiCommand& request, ReceivedPdu& pdu);
  bool take_data_out(Task& task, const DataOut& request, ReceivedPdu& pdu);
  void append_data(Task& task, ReceivedPdu& pdu);
  void go_on(Task& task, Actions& actions);
  void request_data(Task& task, Actions& actions);
  bool grant_budget(Task& task);
  void offer(Task& task, Actions& actions);
  void submit(Task& task, Actions& actions);
  void submit_waiting(Actions& actions);
  bool older_collecting(std::uint32_t serial);
  void finish(Task& task, Actions& actions);

  // connection_responses.cc
  void answer(Task& task, scsi::Response&& response, Actions& actions);
  std::uint32_t send_data_in(DataIn pdu, scsi::Response& response, std::uint32_t size,
                             bool with_status, Actions& actions);

  scsi::CommandTag tag_of(const Task& task) const;
  Task* find(scsi::CommandTag tag);

  std::uint32_t number_;
  const TargetDirectory* directory_;
  Phase phase_ = Phase::login;
  Receiver receiver_;
  Sender sender_;
  std::optional<Login> login_;
  Login::Step admission_;  // the login response that waits for on_admitted
  bool numbered_ = false;  // the first login request has set the sequence numbers
  SessionState session_;

  TaskTable tasks_;
  std::size_t at_unit_ = 0;
  std::uint32_t window_used_ = 0;              // commands without the I bit under way
  std::uint32_t immediate_used_ = 0;           // with it
  std::deque<std::uint32_t> awaiting_budget_;  // tags of collecting tasks
  std::uint64_t budget_left_ = solicited_data_budget;
  // Tags of ready tasks, by serial; unless held, the first is ORDERED.
  std::vector<std::uint32_t> waiting_;
  bool held_ = false;
  std::vector<PendingManagement> management_;
  std::uint32_t last_management_ = 0;

  std::vector<std::byte> text_in_;  // of text requests with the C bit
  std::string text_out_;            // what did not fit into the last text response
  std::uint32_t text_tag_ = reserved_tag;

  Instant started_;
  Instant last_received_;
  std::optional<Instant> pinged_;
  std::optional<Instant> logout_deadline_;
};

}  // namespace duet::iscsi
