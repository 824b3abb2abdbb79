// One conversation with a node's daemon.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "admin/control.h"
#include "base/result.h"
#include "base/time.h"
#include "platform/event_loop.h"
#include "platform/tls_channel.h"
#include "ports/message_channel.h"
#include "target.h"

namespace duet::cli {

class Client {
 public:
  // Errors: disconnected (no daemon, or none that accepts our secret), naming address and cure;
  // those of the secret file.
  static Result<std::unique_ptr<Client>> connect(const Target& target);

  void send(const admin::Request& request);
  // The next reply. Errors: timed_out, disconnected (the daemon went away), unsupported_version,
  // cancelled (Ctrl-C).
  Result<admin::Reply> receive(Duration limit);
  // From now on Ctrl-C ends receive() instead of the process.
  void catch_interrupts();

  // A daemon answers from memory: one that takes longer is stuck.
  static constexpr Duration answer_limit = seconds(5);

 private:
  Status dial(const Target& target);
  Status dial_remote(const Target::Remote& remote);
  void attach();

  platform::EventLoop loop_;
  std::unique_ptr<platform::TlsContext> tls_;
  std::unique_ptr<ports::MessageChannel> channel_;
  std::deque<admin::Reply> replies_;
  bool closed_ = false;
  bool interrupted_ = false;
  std::optional<Error> malformed_;
};

}  // namespace duet::cli
