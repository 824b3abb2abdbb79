// Serves the control socket of a node (admin/control.h): answers from what the supervisor knows, at
// once, whatever the partner does.
#pragma once

#include <map>
#include <memory>

#include "admin/control.h"
#include "node/supervisor.h"
#include "ports/message_channel.h"

namespace duet::node {

class ControlService {
 public:
  static constexpr std::size_t max_clients = 64;
  // Rehearsals under way; more are answered without one.
  static constexpr std::size_t max_checks = 8;

  explicit ControlService(Supervisor& supervisor, std::int64_t supervisor_pid)
      : supervisor_(supervisor), supervisor_pid_(supervisor_pid) {}
  ~ControlService();

  // A new client; it is dropped when there are too many.
  void add_client(std::unique_ptr<ports::MessageChannel> channel);

 private:
  struct Client {
    std::unique_ptr<ports::MessageChannel> channel;
    std::uint64_t follower = 0;
  };
  using ClientId = std::uint64_t;

  void on_message(ClientId client, Bytes bytes);
  void remove(ClientId client);
  void reply(ClientId client, const admin::Reply& reply);

  void serve(ClientId client, const admin::StatusQuery& query);
  void serve(ClientId client, const admin::HealthQuery& query);
  void serve(ClientId client, const admin::CheckQuery& query);
  void serve(ClientId client, const admin::EventsQuery& query);
  void serve(ClientId client, const admin::Operate& request);
  void serve(ClientId client, const admin::LunCreate& request);
  void serve(ClientId client, const admin::LunDelete& request);
  void serve(ClientId client, const admin::LunList& request);
  void serve(ClientId client, const admin::DiskList& request);
  void serve(ClientId client, const admin::PoolOrder& request);
  void serve(ClientId client, const admin::NodePanic& request);
  void serve(ClientId client, const admin::CoreOrder& request);

  NodeId moving_node() const;
  // Why an order to the pool of an identity cannot be carried out here; empty: it can.
  std::string not_served(NodeId identity) const;
  Supervisor::LunDone answer_luns(ClientId client);
  template <class Order>
  void change_lun(ClientId client, Order order);

  Supervisor& supervisor_;
  std::int64_t supervisor_pid_;
  std::map<ClientId, Client> clients_;
  ClientId last_client_ = 0;
  std::size_t checks_ = 0;
  // Late answers must not reach us when we are gone.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::node
