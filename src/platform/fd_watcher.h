// Tells when a file descriptor is readable or writable, level-triggered, for libraries that own
// their descriptors (libiscsi, libfabric) and for our own sockets.
#pragma once

#include <functional>
#include <memory>

namespace duet::platform {

class EventLoop;

class FdWatcher {
 public:
  // An error or hang-up of the descriptor counts as both. Called from the loop; it may destroy the
  // watcher.
  using OnReady = std::function<void(bool readable, bool writable)>;

  // Does not own `fd`. Destroy the watcher before `fd` is closed. Sets O_NONBLOCK. Waits for
  // nothing until want().
  FdWatcher(EventLoop& loop, int fd, OnReady on_ready);
  ~FdWatcher();
  FdWatcher(const FdWatcher&) = delete;
  FdWatcher& operator=(const FdWatcher&) = delete;

  void want(bool readable, bool writable);
  int fd() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace duet::platform
