#include "platform/tcp_stream.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

namespace duet::platform {

void TcpNetwork::Core::flush_at_turn_end(std::shared_ptr<TcpStream> stream) {
  if (unsent.empty()) {
    loop.at_turn_end([self = shared_from_this()] {
      auto streams_to_flush = std::exchange(self->unsent, {});
      for (auto& each : streams_to_flush) each->flush();
    });
  }
  unsent.push_back(std::move(stream));
}

TcpStream::TcpStream(std::shared_ptr<TcpNetwork::Core> core, int fd, std::string peer)
    : core_(std::move(core)), fd_(fd), peer_(std::move(peer)) {}

TcpStream::~TcpStream() {
  abandon();
}

void TcpStream::start(std::shared_ptr<ports::StreamHandler> handler) {
  if (state_ == State::closed) return;  // closed within the accept callback
  handler_ = std::move(handler);
  watcher_ = std::make_unique<FdWatcher>(core_->loop, fd_,
                                         [weak = weak_from_this()](bool readable, bool writable) {
                                           if (auto self = weak.lock())
                                             self->on_ready(readable, writable);
                                         });
  update_interest();
}

void TcpStream::send(std::vector<Slice> data) {
  if (state_ != State::open) return;
  for (auto& slice : data) {
    if (slice.bytes.empty()) continue;
    pending_ += slice.bytes.size();
    out_.push_back(std::move(slice));
  }
  if (pending_ > TcpNetwork::max_pending_bytes) {
    close(false);
    return;
  }
  if (flush_scheduled_ || send_blocked_ || pending_ == 0) return;
  flush_scheduled_ = true;
  core_->flush_at_turn_end(shared_from_this());
}

void TcpStream::resume_reading() {
  if (!paused_) return;
  paused_ = false;
  update_interest();
}

void TcpStream::close(bool flush) {
  if (state_ == State::closed) return;
  if (!flush) {
    shut(true);
    return;
  }
  if (state_ != State::open) return;
  state_ = State::flushing;
  flush_timer_ =
      core_->loop.at(core_->loop.now() + TcpNetwork::max_flush_time, [weak = weak_from_this()] {
        if (auto self = weak.lock()) self->shut(true);
      });
  if (pending_ == 0) linger();
  update_interest();
}

void TcpStream::on_ready(bool readable, bool writable) {
  if (writable && send_blocked_) {
    send_blocked_ = false;
    flush();
  }
  if (readable) {
    if (state_ == State::open) {
      receive();
    } else if (state_ == State::lingering) {
      discard();
    }
  }
  update_interest();
}

void TcpStream::receive() {
  std::size_t budget = TcpNetwork::max_receive_per_turn;
  while (state_ == State::open && budget > 0 && pending_ <= TcpNetwork::stop_reading_above) {
    MutableBytes room = handler_->receive_buffer();
    if (room.empty()) {
      paused_ = true;
      return;
    }
    // weak_ptr::lock() in start() is no critical section.
    // NOLINTNEXTLINE(clang-analyzer-unix.BlockInCriticalSection)
    ssize_t n = ::recv(fd_, room.data(), room.size(), MSG_DONTWAIT);
    if (n > 0) {
      auto received = static_cast<std::size_t>(n);
      budget -= std::min(budget, received);
      handler_->on_received(received);
      if (received < room.size()) return;  // drained: saves the call that would say so
    } else if (n < 0 && errno == EINTR) {
      continue;
    } else {
      if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) shut(false);
      return;
    }
  }
}

void TcpStream::discard() {
  constexpr std::size_t at_most = 16384;
  // weak_ptr::lock() in start() is no critical section.
  // NOLINTNEXTLINE(clang-analyzer-unix.BlockInCriticalSection)
  ssize_t n = ::recv(fd_, nullptr, at_most, MSG_DONTWAIT | MSG_TRUNC);  // tcp(7): copies nothing
  if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) shut(false);
}

std::size_t TcpStream::gather(std::span<iovec> parts) const {
  std::size_t count = 0;
  for (std::size_t i = first_; i < out_.size() && count < parts.size(); ++i) {
    Bytes bytes = out_[i].bytes;
    if (i == first_) bytes = bytes.subspan(offset_);
    parts[count++] = {const_cast<std::byte*>(bytes.data()), bytes.size()};
  }
  return count;
}

void TcpStream::flush() {
  flush_scheduled_ = false;
  if (state_ != State::open && state_ != State::flushing) return;
  bool progress = false;
  while (pending_ > 0 && !send_blocked_) {
    std::array<iovec, 512> parts;
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = gather(parts);
    ssize_t n = ::sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) {
      progress = true;
      consume(static_cast<std::size_t>(n));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      send_blocked_ = true;
    } else if (errno != EINTR) {
      shut(false);
      return;
    }
  }
  if (progress && state_ == State::open) handler_->on_sent(pending_);
  if (pending_ == 0 && state_ == State::flushing) linger();
  update_interest();
}

void TcpStream::consume(std::size_t sent) {
  pending_ -= sent;
  offset_ += sent;
  while (first_ < out_.size() && offset_ >= out_[first_].bytes.size()) {
    offset_ -= out_[first_].bytes.size();
    out_[first_] = {};
    ++first_;
  }
  if (first_ == out_.size()) {
    out_.clear();
    first_ = 0;
  } else if (first_ > 1024 && first_ > out_.size() / 2) {
    out_.erase(out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(first_));
    first_ = 0;
  }
}

void TcpStream::linger() {
  state_ = State::lingering;
  ::shutdown(fd_, SHUT_WR);
}

// `reset`: what the kernel has not sent yet is not sent any more, and the peer knows at once.
void TcpStream::shut(bool reset) {
  if (state_ == State::closed) return;
  if (reset) {
    struct linger off = {.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &off, sizeof off);
  }
  auto self = shared_from_this();
  auto handler = handler_;
  abandon();
  if (handler) {
    core_->loop.post([handler = std::move(handler)] { handler->on_closed(); });
  }
}

void TcpStream::abandon() {
  if (state_ == State::closed) return;
  state_ = State::closed;
  watcher_.reset();
  ::close(fd_);
  fd_ = -1;
  core_->loop.cancel(flush_timer_);
  out_.clear();
  first_ = offset_ = pending_ = 0;
  handler_.reset();
  core_->streams.erase(this);  // may destroy us: nothing after it
}

void TcpStream::update_interest() {
  if (!watcher_) return;
  bool read = (state_ == State::open && !paused_ && pending_ <= TcpNetwork::stop_reading_above) ||
              state_ == State::lingering;
  watcher_->want(read, send_blocked_);
}

}  // namespace duet::platform
