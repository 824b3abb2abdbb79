// ports::Interconnect over libfabric, for the supervisor: hosts the state structure and the
// greeting region, and performs what interconnect::ConnectionManager decides. Open this header
// first.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "interconnect/connection_manager.h"
#include "interconnect/state_structure.h"
#include "platform/fabric_peer.h"
#include "ports/interconnect.h"

namespace duet::platform {

struct FabricInterconnectOptions {
  std::string provider = "tcp";
  FabricAddress listen;   // port 0: the kernel chooses, see port()
  FabricAddress partner;  // the predetermined address; may be set later with set_partner()
  interconnect::Self self;
  interconnect::ManagerTimes times;
  Duration operation_timeout = milliseconds(500);  // of a read or a message
};

class FabricInterconnect final : public ports::Interconnect {
 public:
  // Listens at once. Errors: io_error (provider, address in use), invalid (secret too short).
  static Result<std::unique_ptr<FabricInterconnect>> open(EventLoop& loop,
                                                          FabricInterconnectOptions options);
  ~FabricInterconnect() override;
  FabricInterconnect(const FabricInterconnect&) = delete;
  FabricInterconnect& operator=(const FabricInterconnect&) = delete;

  // Begins the bring-up; publish the state structure first. Error: io_error.
  Status start();
  // Requires: start() has not been called.
  void set_partner(FabricAddress address) { options_.partner = std::move(address); }
  std::uint16_t port() const { return listener_->port(); }

  ports::LinkState state() const override { return manager_.state(); }
  void on_state(std::function<void(ports::LinkState, const std::string&)> callback) override {
    on_state_ = std::move(callback);
  }
  void announce_clients(std::vector<ports::ConnectionClient> clients) override;
  void on_partner(std::function<void(const ports::Partner&)> callback) override {
    on_partner_ = std::move(callback);
  }
  void read_partner_state(ports::Done<std::vector<std::byte>> done) override;
  void send(std::vector<std::byte> message, ports::Done<void> done) override;
  void on_message(std::function<void(Bytes)> callback) override {
    on_message_ = std::move(callback);
  }
  void publish_state(Bytes structure) override;
  void restart(BootNonce nonce) override;

 private:
  FabricInterconnect(EventLoop& loop, FabricInterconnectOptions options);

  void handle(interconnect::Event event);
  void perform(interconnect::Dial& action);
  void perform(interconnect::ReadState& action);
  void perform(interconnect::WriteGreeting& action);
  void perform(interconnect::SendFrame& action);
  void perform(interconnect::CloseOutgoing& action);
  void perform(interconnect::CloseIncoming& action);
  void perform(interconnect::SetTimer& action);
  void perform(interconnect::ReportState& action);
  void perform(interconnect::ReportPartner& action);
  void perform(interconnect::Deliver& action);

  void on_dialled(std::expected<FabricDialer::Admitted, FabricDialer::Refusal> outcome);
  void on_authenticated(FabricListener::Authenticated authenticated);
  void close_incoming();
  FabricConnection::Limits limits() const;

  EventLoop& loop_;
  FabricInterconnectOptions options_;
  interconnect::ConnectionManager manager_;
  FabricInfo partner_info_;
  std::unique_ptr<FabricListener> listener_;
  std::unique_ptr<FabricDialer> dialer_;
  std::shared_ptr<FabricConnection> outgoing_;
  std::array<interconnect::Grant, 2> grants_;
  std::shared_ptr<FabricConnection> incoming_;
  ports::TimerId timer_;

  // Regions of the incoming connection.
  alignas(64) std::array<std::byte, interconnect::state_structure_size> state_{};
  alignas(64) interconnect::GreetingBytes greeting_{};

  std::deque<interconnect::Event> events_;
  bool handling_ = false;
  std::function<void(ports::LinkState, const std::string&)> on_state_;
  std::function<void(const ports::Partner&)> on_partner_;
  std::function<void(Bytes)> on_message_;
};

}  // namespace duet::platform
