// ports::EngineProcess as a child process with a channel and shared memory
// (docs/protocols/processes.md).
#pragma once

#include <memory>
#include <string>

#include "platform/child_process.h"
#include "platform/event_loop.h"
#include "platform/shared_memory.h"
#include "platform/unix_channel.h"
#include "ports/engine_process.h"

namespace duet::platform {

// Descriptors the engine finds at its start.
inline constexpr int engine_channel_descriptor = 3;
inline constexpr int engine_memory_descriptor = 4;

class EngineChild final : public ports::EngineProcess {
 public:
  // `command`: program and arguments; the boot nonce is appended as --nonce N.
  static Result<std::unique_ptr<EngineChild>> create(EventLoop& loop,
                                                     std::vector<std::string> command);

  void on_message(std::function<void(Bytes)> callback) override {
    on_message_ = std::move(callback);
  }
  void on_ended(std::function<void(const std::string&)> callback) override {
    on_ended_ = std::move(callback);
  }
  Status start(BootNonce nonce) override;
  bool running() const override { return child_ != nullptr; }
  void kill() override;
  void send(std::vector<std::byte> message) override;
  ports::SharedState& shared() override { return memory_.state(); }
  std::int64_t pid() const override { return child_ ? child_->pid() : 0; }

 private:
  EngineChild(EventLoop& loop, std::vector<std::string> command, SharedMemory memory)
      : loop_(loop), command_(std::move(command)), memory_(std::move(memory)) {}

  EventLoop& loop_;
  std::vector<std::string> command_;
  SharedMemory memory_;
  std::unique_ptr<UnixChannel> channel_;
  std::unique_ptr<ChildProcess> child_;
  std::function<void(Bytes)> on_message_;
  std::function<void(const std::string&)> on_ended_;
};

}  // namespace duet::platform
