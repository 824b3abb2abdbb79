#include "command_channel.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace duet::load {

CommandChannel::~CommandChannel() {
  for (const Client& client : clients_) {
    if (client.in != STDIN_FILENO) ::close(client.in);
  }
  if (listener_ >= 0) {
    ::close(listener_);
    ::unlink(path_.c_str());
  }
}

void CommandChannel::use_stdin(std::function<void()> on_end) {
  on_stdin_end_ = std::move(on_end);
  clients_.push_back({STDIN_FILENO, STDOUT_FILENO, {}});
}

Status CommandChannel::listen(const std::string& path) {
  sockaddr_un address{};
  if (path.size() >= sizeof address.sun_path) {
    return fail(ErrorCode::invalid, fmt::format("socket path too long: {}", path));
  }
  address.sun_family = AF_UNIX;
  std::ranges::copy(path, address.sun_path);
  listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  path_ = path;
  ::unlink(path.c_str());
  if (listener_ < 0 ||
      ::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener_, 4) != 0) {
    return fail(ErrorCode::io_error, fmt::format("{}: {}", path, std::strerror(errno)));
  }
  return {};
}

void CommandChannel::add_to(std::vector<pollfd>& polled) const {
  if (listener_ >= 0 && clients_.size() < max_clients) polled.push_back({listener_, POLLIN, 0});
  for (const Client& client : clients_) polled.push_back({client.in, POLLIN, 0});
}

void CommandChannel::service(const std::vector<pollfd>& polled) {
  const auto ready = [&](int fd) {
    return std::ranges::any_of(polled,
                               [fd](const pollfd& p) { return p.fd == fd && p.revents != 0; });
  };
  if (listener_ >= 0 && ready(listener_)) {
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) clients_.push_back({fd, fd, {}});
  }
  std::erase_if(clients_, [&](Client& client) {
    if (!ready(client.in) || receive(client)) return false;
    if (client.in == STDIN_FILENO) {
      on_stdin_end_();
    } else {
      ::close(client.in);
    }
    return true;
  });
}

bool CommandChannel::receive(Client& client) {
  char buffer[max_line];
  const ssize_t n = ::read(client.in, buffer, sizeof buffer);
  if (n < 0) return errno == EINTR || errno == EAGAIN;
  if (n == 0) return false;
  client.partial.append(buffer, static_cast<std::size_t>(n));
  for (std::size_t end; (end = client.partial.find('\n')) != std::string::npos;) {
    const std::string answer = handler_(client.partial.substr(0, end)) + "\n";
    client.partial.erase(0, end + 1);
    if (::write(client.out, answer.data(), answer.size()) < 0) return false;
  }
  return client.partial.size() <= max_line;
}

}  // namespace duet::load
