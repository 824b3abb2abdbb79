// One conversation with a node's daemon.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "admin/control.h"
#include "base/result.h"
#include "base/time.h"
#include "platform/event_loop.h"
#include "platform/unix_channel.h"

namespace duet::cli {

class Client {
 public:
  // Error: disconnected (no daemon), naming the socket and the cure.
  static Result<std::unique_ptr<Client>> connect(const std::string& socket_path);

  void send(const admin::Request& request);
  // The next reply. Errors: timed_out, disconnected (the daemon went away).
  Result<admin::Reply> receive(Duration limit);

  // A daemon answers from memory: one that takes longer is stuck.
  static constexpr Duration answer_limit = seconds(5);

 private:
  platform::EventLoop loop_;
  std::unique_ptr<platform::UnixChannel> channel_;
  std::deque<admin::Reply> replies_;
  bool closed_ = false;
  bool malformed_ = false;
};

}  // namespace duet::cli
