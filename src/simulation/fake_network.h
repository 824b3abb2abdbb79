// Client connections without sockets: what a client sends arrives in the next turn, what the server
// sends is there at once.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ports/stream.h"

namespace duet::simulation {

class FakeNetwork;

// Both ends of a connection: ports::Stream is the server's.
class FakeConnection final : public ports::Stream,
                             public std::enable_shared_from_this<FakeConnection> {
 public:
  FakeConnection(ports::Scheduler& scheduler, std::string peer)
      : scheduler_(scheduler), peer_(std::move(peer)) {}

  // ---- the client's end ----
  void client_send(Bytes bytes);
  std::vector<Slice> client_take() { return std::exchange(to_client_, {}); }
  void client_close();
  bool closed() const { return closed_; }

  // ---- ports::Stream ----
  const std::string& peer() const override { return peer_; }
  void send(std::vector<Slice> data) override;
  std::size_t pending() const override { return 0; }
  void resume_reading() override;
  void close(bool flush) override;

 private:
  friend class FakeNetwork;
  void deliver();
  void end();

  ports::Scheduler& scheduler_;
  std::string peer_;
  std::shared_ptr<ports::StreamHandler> handler_;
  std::vector<std::byte> to_server_;
  std::vector<Slice> to_client_;
  bool closed_ = false;
};

class FakeNetwork final : public ports::Network {
 public:
  explicit FakeNetwork(ports::Scheduler& scheduler) : scheduler_(scheduler) {}
  ~FakeNetwork() override;  // connections that are still open lose their server without a word

  Result<std::unique_ptr<ports::Listener>> listen(const std::string& address, std::uint16_t port,
                                                  bool foreign, Accept accept) override;

  bool listening(const std::string& address, std::uint16_t port) const {
    return listeners_.contains({address, port});
  }
  // Null: nobody listens there, or the server did not accept.
  std::shared_ptr<FakeConnection> connect(const std::string& address, std::uint16_t port);

  bool refuse_to_listen = false;

 private:
  class FakeListener;
  using Where = std::pair<std::string, std::uint16_t>;
  ports::Scheduler& scheduler_;
  std::map<Where, FakeListener*> listeners_;
  std::vector<std::weak_ptr<FakeConnection>> connections_;
  std::uint32_t last_client_ = 0;
};

}  // namespace duet::simulation
