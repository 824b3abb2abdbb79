// ports::MessageChannel over a Unix stream socket: 32-bit length, then the message. Between
// supervisor and engine (socket pair) and between the `duet` command and its daemon (UnixServer).
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "platform/event_loop.h"
#include "platform/fd_watcher.h"
#include "ports/message_channel.h"

namespace duet::platform {

class UnixChannel final : public ports::MessageChannel {
 public:
  static constexpr std::size_t max_message = 4u << 20;   // bytes; a longer one closes the channel
  static constexpr std::size_t max_pending = 16u << 20;  // unsent bytes; more closes the channel

  // Owns `fd`.
  UnixChannel(EventLoop& loop, int fd);
  ~UnixChannel() override;
  UnixChannel(const UnixChannel&) = delete;
  UnixChannel& operator=(const UnixChannel&) = delete;

  void send(std::vector<std::byte> message) override;
  void on_message(std::move_only_function<void(Bytes)> callback) override {
    on_message_ = std::move(callback);
  }
  void on_closed(std::move_only_function<void()> callback) override {
    on_closed_ = std::move(callback);
  }
  bool open() const { return fd_ >= 0; }
  bool all_sent() const { return pending_ == 0; }
  int fd() const { return fd_; }

 private:
  void ready(bool readable, bool writable);
  void read_all();
  void write_all();
  void deliver();
  void close(bool tell);

  EventLoop& loop_;
  int fd_;
  std::unique_ptr<FdWatcher> watcher_;
  std::vector<std::byte> in_;
  std::deque<std::vector<std::byte>> out_;
  std::size_t out_offset_ = 0;
  std::size_t pending_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::move_only_function<void(Bytes)> on_message_;
  std::move_only_function<void()> on_closed_;
};

// Connects to the socket of a server on this machine. Errors: disconnected (nobody listens there).
Result<std::unique_ptr<UnixChannel>> connect_unix(EventLoop& loop, const std::string& path);

// Listens on `path` (mode 0600; a stale socket is replaced, a live one is refused).
class UnixServer {
 public:
  using Accept = std::function<void(std::unique_ptr<UnixChannel>)>;
  static Result<std::unique_ptr<UnixServer>> listen(EventLoop& loop, const std::string& path,
                                                    Accept accept);
  ~UnixServer();
  UnixServer(const UnixServer&) = delete;
  UnixServer& operator=(const UnixServer&) = delete;

 private:
  UnixServer(EventLoop& loop, int fd, std::string path, Accept accept);
  EventLoop& loop_;
  int fd_;
  std::string path_;
  Accept accept_;
  std::unique_ptr<FdWatcher> watcher_;
};

}  // namespace duet::platform
