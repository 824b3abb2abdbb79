// ports::EngineProcess as a child process with a channel and shared memory
// (docs/protocols/processes.md).
#pragma once

#include <memory>
#include <string>

#include "platform/child_process.h"
#include "platform/descriptor.h"
#include "platform/engine_core.h"
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
  void on_panic(std::function<void(const ports::EnginePanic&)> callback) override {
    on_panic_ = std::move(callback);
  }
  void interrupt() override;
  ports::CoreSource* core() override { return core_.get(); }
  Status start(BootNonce nonce) override;
  bool running() const override { return child_ != nullptr; }
  void kill() override;
  void send(std::vector<std::byte> message) override;
  ports::SharedState& shared() override { return memory_.state(); }
  std::int64_t pid() const override { return child_ ? child_->pid() : 0; }

 private:
  EngineChild(EventLoop& loop, std::vector<std::string> command, SharedMemory memory)
      : loop_(loop), command_(std::move(command)), memory_(std::move(memory)) {}

  void read_report();

  EventLoop& loop_;
  std::vector<std::string> command_;
  SharedMemory memory_;
  std::unique_ptr<UnixChannel> channel_;
  std::unique_ptr<ChildProcess> child_;
  std::unique_ptr<EngineCore> core_;
  std::unique_ptr<Descriptor> report_;  // the pipe of crash_report.h
  std::unique_ptr<FdWatcher> report_watcher_;
  std::function<void(Bytes)> on_message_;
  std::function<void(const ports::EnginePanic&)> on_panic_;
  std::function<void(const std::string&)> on_ended_;
};

}  // namespace duet::platform
