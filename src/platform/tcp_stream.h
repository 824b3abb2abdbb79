// One TCP connection of TcpNetwork; used only by tcp_network.cc.
#pragma once

#include <sys/uio.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "platform/fd_watcher.h"
#include "platform/tcp_network.h"

namespace duet::platform {

class TcpStream;

struct TcpNetwork::Core : std::enable_shared_from_this<TcpNetwork::Core> {
  explicit Core(EventLoop& event_loop) : loop(event_loop) {}
  void flush_at_turn_end(std::shared_ptr<TcpStream> stream);

  EventLoop& loop;
  std::unordered_map<TcpStream*, std::shared_ptr<TcpStream>> streams;
  std::vector<std::shared_ptr<TcpStream>> unsent;  // to be flushed at the end of this turn
};

//   open ──close(true)──► flushing ──all sent──► lingering ──peer closed, 1 s──► closed
//     └── close(false), peer closed, error ──────────────────────────────────────────^
// lingering: our side is shut down and what the peer still sends is thrown away; closing at once
// would make the kernel reset the connection and lose what we sent last.
class TcpStream final : public ports::Stream, public std::enable_shared_from_this<TcpStream> {
 public:
  TcpStream(std::shared_ptr<TcpNetwork::Core> core, int fd, std::string peer);
  ~TcpStream() override;
  void start(std::shared_ptr<ports::StreamHandler> handler);

  const std::string& peer() const override { return peer_; }
  void send(std::vector<Slice> data) override;
  std::size_t pending() const override { return pending_; }
  void resume_reading() override;
  void close(bool flush) override;

  void flush();
  void abandon();  // closes without telling the handler

 private:
  enum class State { open, flushing, lingering, closed };

  void on_ready(bool readable, bool writable);
  void receive();
  void discard();
  void linger();
  void shut(bool reset);
  void consume(std::size_t sent);
  std::size_t gather(std::span<iovec> parts) const;
  void update_interest();

  std::shared_ptr<TcpNetwork::Core> core_;
  int fd_;
  std::string peer_;
  State state_ = State::open;
  std::shared_ptr<ports::StreamHandler> handler_;
  std::unique_ptr<FdWatcher> watcher_;
  ports::TimerId flush_timer_;
  std::vector<Slice> out_;
  std::size_t first_ = 0;   // index in out_ of the first slice not wholly sent
  std::size_t offset_ = 0;  // bytes of it that are sent
  std::size_t pending_ = 0;
  bool flush_scheduled_ = false;
  bool send_blocked_ = false;  // the kernel's buffer is full
  bool paused_ = false;        // the handler had no room
};

}  // namespace duet::platform
