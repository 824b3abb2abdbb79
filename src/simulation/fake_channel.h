// One end of a message channel; the test holds the other one.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "ports/message_channel.h"

namespace duet::simulation {

class FakeChannel final : public ports::MessageChannel {
 public:
  // The test's end. It outlives the channel and sees whether that is still there.
  class Peer {
   public:
    bool open() const { return channel_ != nullptr; }
    void say(Bytes message) {
      if (channel_ != nullptr && channel_->on_message_) channel_->on_message_(message);
    }
    void close() {
      if (channel_ != nullptr && channel_->on_closed_) channel_->on_closed_();
    }
    std::vector<std::vector<std::byte>> take() { return std::exchange(received_, {}); }

   private:
    friend class FakeChannel;
    FakeChannel* channel_ = nullptr;
    std::vector<std::vector<std::byte>> received_;
  };

  explicit FakeChannel(std::shared_ptr<Peer> peer) : peer_(std::move(peer)) {
    peer_->channel_ = this;
  }
  ~FakeChannel() override { peer_->channel_ = nullptr; }

  void send(std::vector<std::byte> message) override {
    peer_->received_.push_back(std::move(message));
  }
  void on_message(std::move_only_function<void(Bytes)> callback) override {
    on_message_ = std::move(callback);
  }
  void on_closed(std::move_only_function<void()> callback) override {
    on_closed_ = std::move(callback);
  }

 private:
  std::shared_ptr<Peer> peer_;
  std::move_only_function<void(Bytes)> on_message_;
  std::move_only_function<void()> on_closed_;
};

}  // namespace duet::simulation
