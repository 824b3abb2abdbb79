#include "platform/unix_channel.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace duet::platform {
namespace {

constexpr std::size_t header_size = 4;

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return fail(ErrorCode::invalid, "the socket path " + path + " is longer than " +
                                        std::to_string(sizeof address.sun_path - 1) +
                                        " characters; choose a shorter runtime_dir");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

int unix_socket() {
  return ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

}  // namespace

UnixChannel::UnixChannel(EventLoop& loop, int fd) : loop_(loop), fd_(fd) {
  watcher_ = std::make_unique<FdWatcher>(loop, fd, [this](bool r, bool w) { ready(r, w); });
  watcher_->want(true, false);
}

UnixChannel::~UnixChannel() {
  *alive_ = false;
  close(false);
}

void UnixChannel::send(std::vector<std::byte> message) {
  if (fd_ < 0) return;
  ASSERT(message.size() <= max_message);
  std::vector<std::byte> header(header_size);
  store_le<std::uint32_t>(header.data(), static_cast<std::uint32_t>(message.size()));
  pending_ += header_size + message.size();
  out_.push_back(std::move(header));
  out_.push_back(std::move(message));
  write_all();
  if (pending_ > max_pending) close(true);
}

void UnixChannel::ready(bool readable, bool writable) {
  auto alive = alive_;
  if (writable) write_all();
  if (*alive && readable && fd_ >= 0) read_all();
}

void UnixChannel::read_all() {
  std::byte buffer[65536];
  while (fd_ >= 0) {
    ssize_t n = ::read(fd_, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
      close(true);
      return;
    }
    in_.insert(in_.end(), buffer, buffer + n);
    auto alive = alive_;
    deliver();
    if (!*alive) return;
  }
}

void UnixChannel::deliver() {
  auto alive = alive_;
  std::size_t at = 0;
  while (in_.size() - at >= header_size) {
    auto size = load_le<std::uint32_t>(in_.data() + at);
    if (size > max_message) {
      close(true);
      return;
    }
    if (in_.size() - at < header_size + size) break;
    // Copied out: the callback may send, close or destroy us.
    std::vector<std::byte> message(
        in_.begin() + static_cast<std::ptrdiff_t>(at + header_size),
        in_.begin() + static_cast<std::ptrdiff_t>(at + header_size + size));
    at += header_size + size;
    if (on_message_) on_message_(message);
    if (!*alive || fd_ < 0) return;
  }
  in_.erase(in_.begin(), in_.begin() + static_cast<std::ptrdiff_t>(at));
}

void UnixChannel::write_all() {
  while (!out_.empty()) {
    auto& front = out_.front();
    if (front.size() > out_offset_) {
      ssize_t n = ::send(fd_, front.data() + out_offset_, front.size() - out_offset_, MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) break;
      if (n < 0) {
        close(true);
        return;
      }
      out_offset_ += static_cast<std::size_t>(n);
      pending_ -= static_cast<std::size_t>(n);
      if (out_offset_ < front.size()) continue;
    }
    out_.pop_front();
    out_offset_ = 0;
  }
  if (watcher_) watcher_->want(true, !out_.empty());
}

void UnixChannel::close(bool tell) {
  if (fd_ < 0) return;
  watcher_.reset();
  ::close(fd_);
  fd_ = -1;
  out_.clear();
  pending_ = 0;
  if (!tell) return;
  loop_.post([this, alive = alive_] {
    if (*alive && on_closed_) on_closed_();
  });
}

Result<std::unique_ptr<UnixChannel>> connect_unix(EventLoop& loop, const std::string& path) {
  auto address = address_of(path);
  if (!address) return std::unexpected(address.error());
  int fd = unix_socket();
  if (fd < 0 || ::connect(fd, reinterpret_cast<sockaddr*>(&*address), sizeof *address) != 0) {
    auto why = std::string(std::strerror(errno));
    if (fd >= 0) ::close(fd);
    return fail(ErrorCode::disconnected, "nobody answers at " + path + ": " + why);
  }
  return std::make_unique<UnixChannel>(loop, fd);
}

Result<std::unique_ptr<UnixServer>> UnixServer::listen(EventLoop& loop, const std::string& path,
                                                       Accept accept) {
  auto address = address_of(path);
  if (!address) return std::unexpected(address.error());
  auto* generic = reinterpret_cast<sockaddr*>(&*address);
  int probe = unix_socket();
  bool live = probe >= 0 && ::connect(probe, generic, sizeof *address) == 0;
  if (probe >= 0) ::close(probe);
  if (live) return fail(ErrorCode::busy, "another daemon already listens on " + path);
  ::unlink(path.c_str());
  int fd = unix_socket();
  mode_t mask = ::umask(0177);
  bool bound = fd >= 0 && ::bind(fd, generic, sizeof *address) == 0 && ::listen(fd, 16) == 0;
  int error = errno;
  ::umask(mask);
  if (!bound) {
    if (fd >= 0) ::close(fd);
    return fail(ErrorCode::io_error,
                "cannot listen on " + path + ": " + std::string(std::strerror(error)));
  }
  return std::unique_ptr<UnixServer>(new UnixServer(loop, fd, path, std::move(accept)));
}

UnixServer::UnixServer(EventLoop& loop, int fd, std::string path, Accept accept)
    : loop_(loop), fd_(fd), path_(std::move(path)), accept_(std::move(accept)) {
  watcher_ = std::make_unique<FdWatcher>(loop_, fd_, [this](bool, bool) {
    int client = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client >= 0) accept_(std::make_unique<UnixChannel>(loop_, client));
  });
  watcher_->want(true, false);
}

UnixServer::~UnixServer() {
  watcher_.reset();
  ::close(fd_);
  ::unlink(path_.c_str());
}

}  // namespace duet::platform
