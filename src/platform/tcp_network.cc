#include "platform/tcp_network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <system_error>
#include <utility>

#include "platform/tcp_stream.h"

namespace duet::platform {
namespace {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
};

std::optional<SocketAddress> parse(const std::string& address, std::uint16_t port) {
  SocketAddress result;
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  if (::inet_pton(AF_INET, address.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    std::memcpy(&result.storage, &v4, sizeof v4);
    result.size = sizeof v4;
  } else if (::inet_pton(AF_INET6, address.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    std::memcpy(&result.storage, &v6, sizeof v6);
    result.size = sizeof v6;
  } else {
    return std::nullopt;
  }
  return result;
}

std::uint16_t port_of(const SocketAddress& address) {
  return ntohs(address.family() == AF_INET6
                   ? reinterpret_cast<const sockaddr_in6&>(address.storage).sin6_port
                   : reinterpret_cast<const sockaddr_in&>(address.storage).sin_port);
}

std::string to_string(const SocketAddress& address) {
  char text[INET6_ADDRSTRLEN] = "?";
  if (address.family() == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address.storage);
    ::inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
    return fmt::format("[{}]:{}", text, port_of(address));
  }
  const auto& v4 = reinterpret_cast<const sockaddr_in&>(address.storage);
  ::inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
  return fmt::format("{}:{}", text, port_of(address));
}

std::string error_text(int error) {
  return std::generic_category().message(error);
}

void set_option(int fd, int level, int option, int value) {
  ::setsockopt(fd, level, option, &value, sizeof value);
}

bool same_host(const sockaddr* a, const SocketAddress& b) {
  if (a == nullptr || a->sa_family != b.family()) return false;
  if (b.family() == AF_INET) {
    return reinterpret_cast<const sockaddr_in*>(a)->sin_addr.s_addr ==
           reinterpret_cast<const sockaddr_in&>(b.storage).sin_addr.s_addr;
  }
  return std::memcmp(&reinterpret_cast<const sockaddr_in6*>(a)->sin6_addr,
                     &reinterpret_cast<const sockaddr_in6&>(b.storage).sin6_addr,
                     sizeof(in6_addr)) == 0;
}

class TcpListener final : public ports::Listener {
 public:
  TcpListener(std::shared_ptr<TcpNetwork::Core> core, int fd, std::uint16_t port,
              ports::Network::Accept accept)
      : core_(std::move(core)),
        fd_(fd),
        port_(port),
        accept_(std::make_shared<ports::Network::Accept>(std::move(accept))),
        watcher_(std::in_place, core_->loop, fd, [this](bool, bool) { accept_all(); }) {
    watcher_->want(true, false);
  }
  ~TcpListener() override {
    core_->loop.cancel(retry_);
    *alive_ = false;
    watcher_.reset();
    ::close(fd_);
  }
  std::uint16_t port() const override { return port_; }

 private:
  static constexpr int max_accepts_per_turn = 64;

  void accept_all() {
    auto alive = alive_;  // the accept callback may destroy this listener
    for (int i = 0; i < max_accepts_per_turn && *alive; ++i) {
      SocketAddress peer;
      peer.size = sizeof peer.storage;
      int fd = ::accept4(fd_, peer.get(), &peer.size, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd >= 0) {
        accept_one(fd, to_string(peer));
      } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        // Still readable: wait a little instead of spinning until descriptors are free again.
        watcher_->want(false, false);
        retry_ = core_->loop.at(core_->loop.now() + TcpNetwork::accept_retry_interval,
                                [this] { watcher_->want(true, false); });
        return;
      } else if (errno != EINTR && errno != ECONNABORTED) {
        return;
      }
    }
  }

  void accept_one(int fd, std::string peer) {
    if (core_->streams.size() >= TcpNetwork::max_streams) {
      ::close(fd);
      return;
    }
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    auto stream = std::make_shared<TcpStream>(core_, fd, std::move(peer));
    core_->streams.emplace(stream.get(), stream);
    auto accept = accept_;
    if (auto handler = (*accept)(stream)) {
      stream->start(std::move(handler));
    } else {
      stream->abandon();
    }
  }

  std::shared_ptr<TcpNetwork::Core> core_;
  int fd_;
  std::uint16_t port_;
  std::shared_ptr<ports::Network::Accept> accept_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::optional<FdWatcher> watcher_;
  ports::TimerId retry_;
};

// Closes the descriptor unless it is released.
struct FdGuard {
  int fd;
  ~FdGuard() {
    if (fd >= 0) ::close(fd);
  }
  int release() { return std::exchange(fd, -1); }
};

}  // namespace

Result<std::string> interface_of(const std::string& address) {
  auto wanted = parse(address, 0);
  if (!wanted) return fail(ErrorCode::invalid, "'" + address + "' is not a numeric IP address");
  if (wanted->family() == AF_INET) {
    auto host = ntohl(reinterpret_cast<sockaddr_in&>(wanted->storage).sin_addr.s_addr);
    if (host >> 24 == 127) return std::string("lo");  // all of 127/8, though only .1 is listed
  }
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) {
    return fail(ErrorCode::io_error, "cannot list interfaces: " + error_text(errno));
  }
  std::optional<std::string> found;
  for (auto* each = list; each != nullptr && !found; each = each->ifa_next) {
    if (same_host(each->ifa_addr, *wanted)) found = each->ifa_name;
  }
  ::freeifaddrs(list);
  if (!found) return fail(ErrorCode::not_found, "no interface of this machine holds " + address);
  return *found;
}

TcpNetwork::TcpNetwork(EventLoop& loop) : core_(std::make_shared<Core>(loop)) {}

TcpNetwork::~TcpNetwork() {
  auto streams = core_->streams;
  for (auto& [_, stream] : streams) stream->abandon();
}

std::size_t TcpNetwork::open_streams() const {
  return core_->streams.size();
}

Result<std::unique_ptr<ports::Listener>> TcpNetwork::listen(const std::string& address,
                                                            std::uint16_t port, bool foreign,
                                                            Accept accept) {
  auto local = parse(address, port);
  if (!local) return fail(ErrorCode::invalid, "'" + address + "' is not a numeric IP address");
  auto failed = [&](const char* what) {
    return fail(ErrorCode::io_error,
                fmt::format("{}:{}: {}: {}", address, port, what, error_text(errno)));
  };
  FdGuard socket{::socket(local->family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  if (socket.fd < 0) return failed("socket");
  set_option(socket.fd, SOL_SOCKET, SO_REUSEADDR, 1);
  set_option(socket.fd, SOL_SOCKET, SO_REUSEPORT, 1);
  // Inherited by the accepted sockets; before listen() because the window scale is agreed with SYN.
  set_option(socket.fd, SOL_SOCKET, SO_RCVBUF, socket_buffer_bytes);
  set_option(socket.fd, SOL_SOCKET, SO_SNDBUF, socket_buffer_bytes);
  if (local->family() == AF_INET6) set_option(socket.fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  if (floating_.contains(address)) {
    set_option(socket.fd, IPPROTO_IP, IP_FREEBIND, 1);
    if (local->family() == AF_INET6) set_option(socket.fd, IPPROTO_IPV6, IPV6_FREEBIND, 1);
  } else if (foreign) {
    auto interface = interface_of(address);
    if (!interface) return fail(ErrorCode::io_error, interface.error().message);
    if (::setsockopt(socket.fd, SOL_SOCKET, SO_BINDTODEVICE, interface->c_str(),
                     static_cast<socklen_t>(interface->size())) != 0) {
      return failed("bind to device");
    }
  }
  if (::bind(socket.fd, local->get(), local->size) != 0) return failed("bind");
  if (::listen(socket.fd, SOMAXCONN) != 0) return failed("listen");
  local->size = sizeof local->storage;
  if (::getsockname(socket.fd, local->get(), &local->size) != 0) return failed("getsockname");
  return std::make_unique<TcpListener>(core_, socket.release(), port_of(*local), std::move(accept));
}

}  // namespace duet::platform
