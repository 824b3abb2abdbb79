// The whole of duet-apid: management clients on one side (tls_channel.h), the control socket of the
// node's daemon on the other. Passes messages on and understands none of them, so that nothing a
// stranger sends reaches the supervisor unless he has the key.
#pragma once

#include <map>
#include <memory>

#include "platform/tls_channel.h"
#include "platform/unix_channel.h"

namespace duet::platform {

class TlsRelay {
 public:
  static constexpr std::size_t max_clients = 16;  // more are turned away
  static constexpr std::size_t max_request = 64u << 10;
  // Without a message in either direction.
  static constexpr Duration idle_limit = seconds(3600);

  // Listens on a numeric address; port 0: any. Errors: invalid, io_error.
  static Result<std::unique_ptr<TlsRelay>> open(EventLoop& loop, const TlsContext& context,
                                                const std::string& address, std::uint16_t port,
                                                std::string control_socket);
  ~TlsRelay();
  TlsRelay(const TlsRelay&) = delete;
  TlsRelay& operator=(const TlsRelay&) = delete;

  std::uint16_t port() const { return port_; }
  std::size_t clients() const { return clients_.size(); }
  // For people: who came, and what was wrong with him.
  std::function<void(const std::string&)> on_note = [](const std::string&) {};

 private:
  struct Client {
    std::string peer;
    std::unique_ptr<TlsChannel> tls;
    std::unique_ptr<UnixChannel> daemon;  // once the client has proved that it has the key
    ports::TimerId idle{};
  };
  using ClientId = std::uint64_t;

  TlsRelay(EventLoop& loop, const TlsContext& context, int fd, std::uint16_t port,
           std::string control_socket);
  void accept();
  void welcome(ClientId id);
  Client* find(ClientId id);
  Client* touch(ClientId id);
  void drop(ClientId id, const std::string& why);

  EventLoop& loop_;
  const TlsContext& context_;
  int fd_;
  std::uint16_t port_;
  std::string control_socket_;
  std::unique_ptr<FdWatcher> watcher_;
  std::map<ClientId, Client> clients_;
  ClientId last_client_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::platform
