#include "platform/engine_child.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace duet::platform {

Result<std::unique_ptr<EngineChild>> EngineChild::create(EventLoop& loop,
                                                         std::vector<std::string> command) {
  auto memory = SharedMemory::create();
  if (!memory) return std::unexpected(memory.error());
  return std::unique_ptr<EngineChild>(
      new EngineChild(loop, std::move(command), std::move(*memory)));
}

Status EngineChild::start(BootNonce nonce) {
  ASSERT(!child_);
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return fail(ErrorCode::io_error, std::string("no socket pair: ") + std::strerror(errno));
  }
  auto arguments = command_;
  arguments.push_back("--nonce");
  arguments.push_back(std::to_string(nonce.value()));
  memory_.state().engine_progress.store(0);
  auto child = ChildProcess::start(
      loop_, std::move(arguments),
      {{ends[1], engine_channel_descriptor}, {memory_.descriptor(), engine_memory_descriptor}},
      [this](const std::string& how) {
        // The child is the caller: it goes when this returns.
        auto ended = std::move(child_);
        channel_.reset();
        auto callback = on_ended_;  // it may put another in its place
        if (callback) callback(how);
      });
  ::close(ends[1]);
  if (!child) {
    ::close(ends[0]);
    return std::unexpected(child.error());
  }
  child_ = std::move(*child);
  channel_ = std::make_unique<UnixChannel>(loop_, ends[0]);
  channel_->on_message([this](Bytes bytes) {
    if (on_message_) on_message_(bytes);
  });
  // An engine that lost its channel is of no use: its end is the event that counts.
  channel_->on_closed([this] { kill(); });
  return {};
}

void EngineChild::kill() {
  if (child_) child_->kill();
}

void EngineChild::send(std::vector<std::byte> message) {
  if (channel_) channel_->send(std::move(message));
}

}  // namespace duet::platform
