// Connections to the partner that have proven the cluster secret: the dialling and the accepting
// side. Nobody gets further than two frames without it, and no memory is open to him.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>

#include "interconnect/handshake.h"
#include "platform/fabric_connection.h"
#include "ports/interconnect.h"

namespace duet::platform {

// One attempt to connect and authenticate.
class FabricDialer {
 public:
  struct Admitted {
    std::shared_ptr<FabricConnection> connection;
    interconnect::Hello peer;
    interconnect::Session session;
    std::array<interconnect::Grant, 2> grants;
  };
  struct Refusal {
    // `down` when nothing answered; partner_not_ready when something connected and went silent, or
    // has nothing open for us (Verdict::not_now).
    ports::LinkState state;
    std::string why;
  };
  using OnOutcome = std::function<void(std::expected<Admitted, Refusal>)>;

  // `info` of the partner's address. `outcome` is called once, from the loop, within `limit`; it
  // may destroy the dialer. Destroying the dialer before gives the attempt up.
  FabricDialer(EventLoop& loop, fid_fabric& fabric, const fi_info& info,
               FabricConnection::Limits limits, interconnect::Self self, Duration limit,
               OnOutcome outcome);
  ~FabricDialer();
  FabricDialer(const FabricDialer&) = delete;
  FabricDialer& operator=(const FabricDialer&) = delete;

 private:
  void on_frame(Bytes frame);
  void refuse(ports::LinkState state, std::string why);

  EventLoop& loop_;
  interconnect::DialerHandshake handshake_;
  OnOutcome outcome_;
  std::shared_ptr<FabricConnection> connection_;
  ports::TimerId timer_;
  bool connected_ = false;
  // Guards what is posted to the loop.
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

// Listens, and authenticates who connects.
class FabricListener {
 public:
  struct Authenticated {
    std::shared_ptr<FabricConnection> connection;
    // Still to be answered: welcome() or not_now().
    std::shared_ptr<interconnect::AcceptorHandshake> handshake;
  };
  using OnAuthenticated = std::function<void(Authenticated)>;

  // More connections that have not yet proven the secret than this: the oldest one is dropped.
  static constexpr std::size_t max_half_open = 8;

  static Result<std::unique_ptr<FabricListener>> listen(EventLoop& loop,
                                                        const std::string& provider,
                                                        const FabricAddress& address,
                                                        FabricConnection::Limits limits,
                                                        interconnect::Self self, Duration limit);
  ~FabricListener();
  FabricListener(const FabricListener&) = delete;
  FabricListener& operator=(const FabricListener&) = delete;

  void on_authenticated(OnAuthenticated callback) { on_authenticated_ = std::move(callback); }
  // A new boot of ours: connections that are half-open under the old nonce are dropped.
  void set_nonce(BootNonce nonce);

  std::uint16_t port() const { return port_; }
  // All connections of this listener live in this fabric.
  fid_fabric& fabric() const { return *fabric_; }
  std::size_t half_open() const { return half_open_.size(); }

  // Sends a refusal, then closes the connection: when the frame has arrived or cannot. At most
  // max_half_open are on their way out; then the oldest one is closed at once.
  void send_and_close(std::shared_ptr<FabricConnection> connection, Bytes frame);

 private:
  struct HalfOpen {
    std::shared_ptr<FabricConnection> connection;
    std::shared_ptr<interconnect::AcceptorHandshake> handshake;
    ports::TimerId timer;
  };
  using Entry = std::list<HalfOpen>::iterator;

  FabricListener(EventLoop& loop, FabricConnection::Limits limits, interconnect::Self self,
                 Duration limit);
  void progress();
  void accept(fi_info* request);
  void on_frame(Entry entry, Bytes frame);
  HalfOpen take(Entry entry);
  void drop(Entry entry);

  EventLoop& loop_;
  FabricConnection::Limits limits_;
  interconnect::Self self_;
  Duration limit_;
  OnAuthenticated on_authenticated_;
  std::uint16_t port_ = 0;
  Fid<fid_fabric> fabric_;
  Fid<fid_eq> events_;
  Fid<fid_pep> endpoint_;
  std::unique_ptr<FdWatcher> watcher_;
  std::list<HalfOpen> half_open_;  // oldest first
  std::list<std::shared_ptr<FabricConnection>> leaving_;
};

}  // namespace duet::platform
