#include "platform/tls_relay.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "platform/tcp_address.h"

namespace duet::platform {
namespace {

std::string name_of(const sockaddr_storage& address, socklen_t size) {
  char host[NI_MAXHOST], service[NI_MAXSERV];
  if (::getnameinfo(reinterpret_cast<const sockaddr*>(&address), size, host, sizeof host, service,
                    sizeof service, NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "?";
  }
  return std::string(host) + " port " + service;
}

}  // namespace

Result<std::unique_ptr<TlsRelay>> TlsRelay::open(EventLoop& loop, const TlsContext& context,
                                                 const std::string& address, std::uint16_t port,
                                                 std::string control_socket) {
  auto local = tcp_address(address, port);
  if (!local) return std::unexpected(local.error());
  int fd = ::socket(local->family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int one = 1;
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  if (fd < 0 || ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
      ::bind(fd, local->get(), local->size()) != 0 || ::listen(fd, 16) != 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size) != 0) {
    auto why = std::string(std::strerror(errno));
    if (fd >= 0) ::close(fd);
    return fail(ErrorCode::io_error,
                "cannot listen on " + address + " port " + std::to_string(port) + ": " + why);
  }
  auto chosen =
      ntohs(bound.ss_family == AF_INET ? reinterpret_cast<sockaddr_in*>(&bound)->sin_port
                                       : reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port);
  return std::unique_ptr<TlsRelay>(
      new TlsRelay(loop, context, fd, chosen, std::move(control_socket)));
}

TlsRelay::TlsRelay(EventLoop& loop, const TlsContext& context, int fd, std::uint16_t port,
                   std::string control_socket)
    : loop_(loop),
      context_(context),
      fd_(fd),
      port_(port),
      control_socket_(std::move(control_socket)) {
  watcher_ = std::make_unique<FdWatcher>(loop_, fd_, [this](bool, bool) { accept(); });
  watcher_->want(true, false);
}

TlsRelay::~TlsRelay() {
  *alive_ = false;
  watcher_.reset();
  ::close(fd_);
  for (auto& [id, client] : clients_) loop_.cancel(client.idle);
}

void TlsRelay::accept() {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  int fd =
      ::accept4(fd_, reinterpret_cast<sockaddr*>(&address), &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  auto peer = name_of(address, size);
  if (clients_.size() >= max_clients) {
    ::close(fd);
    on_note(peer + ": too many clients, turned away");
    return;
  }
  int one = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
  auto id = ++last_client_;
  auto& client = clients_[id];
  client.peer = peer;
  client.tls = std::make_unique<TlsChannel>(loop_, context_, fd, max_request);
  client.tls->on_ready([this, id] { welcome(id); });
  client.tls->on_closed([this, id] {
    if (auto* gone = find(id)) drop(id, gone->tls->trouble());
  });
}

// A channel of a client that was dropped lives on for a turn.
TlsRelay::Client* TlsRelay::find(ClientId id) {
  auto it = clients_.find(id);
  return it == clients_.end() ? nullptr : &it->second;
}

void TlsRelay::welcome(ClientId id) {
  auto& client = clients_.at(id);
  auto daemon = connect_unix(loop_, control_socket_);
  if (!daemon) {
    loop_.post([this, id, alive = alive_] {
      if (*alive) drop(id, "the daemon of this node does not run");
    });
    return;
  }
  client.daemon = std::move(*daemon);
  client.daemon->on_message([this, id](Bytes message) {
    if (auto* to = touch(id)) to->tls->send({message.begin(), message.end()});
  });
  client.daemon->on_closed([this, id] { drop(id, "the daemon closed the connection"); });
  client.tls->on_message([this, id](Bytes message) {
    if (auto* from = touch(id)) from->daemon->send({message.begin(), message.end()});
  });
  on_note(client.peer + ": connected");
  touch(id);
}

TlsRelay::Client* TlsRelay::touch(ClientId id) {
  auto* client = find(id);
  if (!client) return nullptr;
  loop_.cancel(client->idle);
  client->idle = loop_.at(loop_.now() + idle_limit, [this, id] { drop(id, "idle"); });
  return client;
}

void TlsRelay::drop(ClientId id, const std::string& why) {
  auto it = clients_.find(id);
  if (it == clients_.end()) return;
  loop_.cancel(it->second.idle);
  on_note(it->second.peer + ": " + why);
  // A channel may be the caller: it goes a turn later.
  loop_.post([client = std::make_shared<Client>(std::move(it->second))] {});
  clients_.erase(it);
}

}  // namespace duet::platform
