// The engine process as its supervisor sees it, played by the test.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "ports/engine_process.h"
#include "ports/scheduler.h"

namespace duet::simulation {

class FakeEngine final : public ports::EngineProcess {
 public:
  explicit FakeEngine(ports::Scheduler& scheduler) : scheduler_(scheduler) {}

  // ---- the test's side ----
  void say(Bytes message) {  // nothing if it does not run
    if (running_ && on_message_) on_message_(message);
  }
  void end(const std::string& how) {
    if (!std::exchange(running_, false)) return;
    if (on_ended_) on_ended_(how);
  }
  void panic(const ports::EnginePanic& panic) {
    if (running_ && on_panic_) on_panic_(panic);
  }
  std::vector<std::vector<std::byte>> take_sent() { return std::exchange(sent_, {}); }
  std::vector<BootNonce> starts;
  std::size_t kills = 0, interrupts = 0;
  ports::CoreSource* source = nullptr;  // its memory
  bool survives_kill = false;  // as a process in an uninterruptible system call; end() ends it
  std::string cannot_start;    // not empty: why

  // ---- ports::EngineProcess ----
  void on_message(std::function<void(Bytes)> callback) override {
    on_message_ = std::move(callback);
  }
  void on_ended(std::function<void(const std::string&)> callback) override {
    on_ended_ = std::move(callback);
  }
  void on_panic(std::function<void(const ports::EnginePanic&)> callback) override {
    on_panic_ = std::move(callback);
  }
  void interrupt() override { ++interrupts; }
  ports::CoreSource* core() override { return source; }
  Status start(BootNonce nonce) override {
    ASSERT(!running_);
    if (!cannot_start.empty()) return fail(ErrorCode::io_error, cannot_start);
    starts.push_back(nonce);
    running_ = true;
    sent_.clear();
    shared_.engine_progress = 0;
    return {};
  }
  bool running() const override { return running_; }
  void kill() override {
    ++kills;
    if (!running_ || survives_kill) return;
    scheduler_.post([this, run = starts.size()] {
      if (run == starts.size()) end("signal 9 (Killed)");
    });
  }
  void send(std::vector<std::byte> message) override {
    if (running_) sent_.push_back(std::move(message));
  }
  ports::SharedState& shared() override { return shared_; }
  std::int64_t pid() const override { return running_ ? 4711 : 0; }

 private:
  ports::Scheduler& scheduler_;
  ports::SharedState shared_{};
  bool running_ = false;
  std::function<void(Bytes)> on_message_;
  std::function<void(const std::string&)> on_ended_;
  std::function<void(const ports::EnginePanic&)> on_panic_;
  std::vector<std::vector<std::byte>> sent_;
};

}  // namespace duet::simulation
