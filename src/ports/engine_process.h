// The engine process of a node as its supervisor sees it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "ports/core_source.h"
#include "ports/shared_state.h"

namespace duet::ports {

// Of an engine that crashed and stands still, its sockets and disks closed.
struct EnginePanic {
  int signal = 0;
  std::string how;  // "signal 6 (Aborted)", "ASSERT failed: ..."
};

class EngineProcess {
 public:
  virtual ~EngineProcess() = default;
  // Called for each message of the running engine, and once when it has ended and its sockets are
  // closed, with how: "exit 0", "signal 6 (Aborted)".
  virtual void on_message(std::function<void(Bytes)> callback) = 0;
  virtual void on_ended(std::function<void(const std::string& how)> callback) = 0;
  // Called once when the engine crashes and can tell: it is still there, and stays until it is
  // killed. One that cannot tell just ends.
  virtual void on_panic(std::function<void(const EnginePanic&)>) {}
  // Makes a hung engine crash, where it hangs. on_panic follows unless it hangs in the kernel.
  virtual void interrupt() {}
  // Its memory; null: cannot be dumped. Valid until on_ended.
  virtual ports::CoreSource* core() { return nullptr; }
  // Requires: none runs. Error: io_error (cannot be started), with the reason.
  virtual Status start(BootNonce nonce) = 0;
  virtual bool running() const = 0;
  virtual void kill() = 0;                                // SIGKILL; on_ended follows
  virtual void send(std::vector<std::byte> message) = 0;  // lost when it does not run
  virtual SharedState& shared() = 0;
  virtual std::int64_t pid() const = 0;  // 0: none runs
};

}  // namespace duet::ports
