#include "platform/fd_watcher.h"

#include <boost/asio/error.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "base/assert.h"
#include "platform/event_loop.h"

namespace duet::platform {

using boost::asio::posix::stream_descriptor;

// Shared with the waits under way, so that the callback may destroy the watcher.
struct FdWatcher::State : std::enable_shared_from_this<State> {
  State(EventLoop& loop, OnReady callback) : descriptor(loop.io()), on_ready(std::move(callback)) {}

  void arm(bool write) {
    bool& waiting = write ? waiting_write : waiting_read;
    if (waiting || !(write ? want_write : want_read)) return;
    waiting = true;
    descriptor.async_wait(
        write ? stream_descriptor::wait_write : stream_descriptor::wait_read,
        [self = shared_from_this(), write](const boost::system::error_code& error) {
          self->on_event(write, error == boost::asio::error::operation_aborted);
        });
  }

  void on_event(bool write, bool aborted) {
    (write ? waiting_write : waiting_read) = false;
    if (closed || aborted) return;
    // Interest may have been taken back while the event was in the queue.
    if (write ? want_write : want_read) on_ready(!write, write);
    if (!closed) arm(write);
  }

  stream_descriptor descriptor;
  OnReady on_ready;
  bool want_read = false;
  bool want_write = false;
  bool waiting_read = false;
  bool waiting_write = false;
  bool closed = false;
};

FdWatcher::FdWatcher(EventLoop& loop, int fd, OnReady on_ready)
    : state_(std::make_shared<State>(loop, std::move(on_ready))) {
  boost::system::error_code error;
  state_->descriptor.assign(fd, error);
  ASSERT(!error);
}

FdWatcher::~FdWatcher() {
  state_->closed = true;
  state_->descriptor.release();  // ends the waits; the descriptor stays open
}

void FdWatcher::want(bool readable, bool writable) {
  state_->want_read = readable;
  state_->want_write = writable;
  state_->arm(false);
  state_->arm(true);
}

int FdWatcher::fd() const {
  return state_->descriptor.native_handle();
}

}  // namespace duet::platform
