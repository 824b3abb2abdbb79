// The iSCSI service: joins client connections to the logical units of targets. Open this header
// first.
//
// A target has portals (listeners), which come and go with the identity it belongs to; its owner
// implements TargetBackend. Replies leave only while the gate is open (the lease).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "iscsi/connection.h"
#include "iscsi/target_directory.h"
#include "ports/stream.h"

namespace duet::services {

// What stands behind a target. May answer from inside the call.
class TargetBackend {
 public:
  virtual ~TargetBackend() = default;
  // A command for unit `lun`; nothing: an address that no unit can have. Each gets exactly one
  // IscsiServer::respond or aborted, also after nexus_lost.
  virtual void submit(std::optional<LunNumber> lun, scsi::Command&& command) = 0;
  // One IscsiServer::task_management_done. `task` with abort_task; a reset of the target has no
  // `lun`.
  virtual void task_management(std::uint64_t request, const scsi::Nexus& nexus,
                               scsi::TaskManagement function, std::optional<LunNumber> lun,
                               std::optional<scsi::CommandTag> task) = 0;
  virtual void nexus_established(const scsi::Nexus& nexus) = 0;
  // The session is gone: its commands are to be aborted. A new session of the same nexus is let in
  // only after they have all been answered.
  virtual void nexus_lost(const scsi::Nexus& nexus) = 0;
};

struct TargetConfig {
  std::string name;                  // iqn...
  std::string alias;                 // may be empty
  TargetBackend* backend = nullptr;  // outlives the target
};

struct PortalConfig {
  std::string address;
  std::uint16_t port = 3260;
  bool foreign = false;  // see ports::Network::listen
  std::uint16_t group_tag = 1;
  std::uint16_t relative_target_port = 1;
  std::string advertised;  // address:port told to discovery; empty: where it listens
};

struct SessionInfo {
  std::string initiator_name;
  std::string target_name;
  std::string peer;
  std::uint16_t relative_target_port = 1;
  std::size_t commands = 0;  // under way at the units
};

using PortalId = Strong<struct PortalIdTag, std::uint32_t>;

class IscsiServer {
 public:
  static constexpr std::size_t max_connections = 256;
  static constexpr Duration tick_interval = seconds(1);

  IscsiServer(ports::Scheduler& scheduler, ports::Network& network);
  // Closes everything without calling a backend.
  ~IscsiServer();
  IscsiServer(const IscsiServer&) = delete;
  IscsiServer& operator=(const IscsiServer&) = delete;

  // A new target is not ready: logins are told to come back (service unavailable), never refused
  // for good. Errors: already_exists, invalid (name).
  Status add_target(TargetConfig config);
  void set_ready(std::string_view target, bool ready);
  // Closes its portals and, without sending anything more, its sessions. The backend is not called
  // again, answers of it are ignored.
  void remove_target(std::string_view target);

  // Errors: not_found (target), io_error (cannot listen).
  Result<PortalId> add_portal(std::string_view target, PortalConfig config);
  // Stops listening; sessions that came through it live on.
  void remove_portal(PortalId portal);
  std::uint16_t port(PortalId portal) const;  // 0 when unknown

  // At once and without sending anything more; the backend is told nexus_lost.
  void drop_sessions(std::string_view target);
  void drop_sessions(PortalId portal);
  // Asks the initiators to log out and come back; those that do not are dropped after
  // iscsi::logout_request_timeout.
  void request_logout(std::string_view target);

  // Planned end of service, in two steps. Step one: commands that have not reached a unit wait,
  // logins are told to come back. `quiet` is called, from the scheduler, when nothing of the target
  // is at a unit any more. Requires: not held.
  void hold(std::string_view target, std::move_only_function<void()> quiet);
  // Serves on. Sessions that still exist go on where they were.
  void resume(std::string_view target);
  // The commands that wait, at most `most`. Requires: held.
  std::vector<iscsi::StoredRequest> waiting_requests(std::string_view target, std::size_t most);
  // Step two: tells the initiators that their sessions end and that they may come back at once, and
  // closes when that and all answers have left, at `limit` without a word. `gone` when no
  // connection is left. Requires: held.
  void part(std::string_view target, Instant limit, std::move_only_function<void()> gone);

  // Asked right before replies leave; when it says no, nothing is sent and all connections close.
  void set_gate(std::function<bool()> open) { gate_ = std::move(open); }

  void respond(scsi::CommandTag tag, scsi::Response&& response);
  void aborted(scsi::CommandTag tag);
  void task_management_done(std::uint64_t request, iscsi::TaskManagementResult result);

  std::vector<SessionInfo> sessions() const;

 private:
  class Client;
  class Portal;
  struct Target;

  Target* find_target(std::string_view name) const;
  std::shared_ptr<ports::StreamHandler> accept(const std::shared_ptr<Portal>& portal,
                                               std::shared_ptr<ports::Stream> stream);
  std::vector<std::shared_ptr<Client>> all_clients() const;
  Client* client_of(std::uint64_t tag);
  template <class Event>
  void step(Client& client, Event event);
  void perform(Client& client, iscsi::Order& order);
  void admit(Client& client);
  void try_admissions();
  void close(Client& client, bool flush);
  void lose_nexus(Client& client);
  void retire(Client& client);
  void mark_unsent(Client& client);
  void send_unsent();
  bool gate_open();
  void drop_all_if(const std::function<bool(const Client&)>& condition);
  void look_whether_quiet(const Target& target);
  void look_whether_gone(const Target& target);
  void close_if_sent(Client& client);
  void set_tick();
  std::uint16_t fresh_tsih();

  ports::Scheduler& scheduler_;
  ports::Network& network_;
  std::function<bool()> gate_;
  std::vector<std::unique_ptr<Target>> targets_;
  std::map<PortalId, std::shared_ptr<Portal>> portals_;
  std::unordered_map<std::uint32_t, std::shared_ptr<Client>> clients_;  // by connection number
  std::vector<std::shared_ptr<Client>> unsent_;
  std::vector<iscsi::Order> spare_orders_;  // reused to save allocations
  std::uint32_t last_client_ = 0;
  std::uint32_t last_portal_ = 0;
  std::uint16_t last_tsih_ = 0;
  ports::TimerId tick_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::services
