// The interconnect of a node whose partner is played by the test.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "ports/interconnect.h"

namespace duet::simulation {

class FakeInterconnect final : public ports::Interconnect {
 public:
  explicit FakeInterconnect(ports::Scheduler& scheduler) : scheduler_(scheduler) {}

  // ---- the test's side ----
  void become(ports::LinkState now, const std::string& why) {
    state_ = now;
    if (on_state_) on_state_(now, why);
  }
  void arrive(const ports::Partner& partner) {
    if (on_partner_) on_partner_(partner);
  }
  void say(Bytes message) {
    if (on_message_) on_message_(message);
  }
  // Reads of the partner's state that wait for an answer, when they are held; else `disconnected`.
  bool hold_reads = false;
  std::function<std::vector<std::byte>()> partner_state;  // if set: the answer
  std::vector<ports::Done<std::vector<std::byte>>> reads;

  std::vector<std::byte> published;  // our state structure
  std::vector<BootNonce> restarts;
  std::vector<ports::ConnectionClient> clients;
  std::vector<std::vector<std::byte>> sent;

  // ---- ports::Interconnect ----
  ports::LinkState state() const override { return state_; }
  void on_state(std::function<void(ports::LinkState, const std::string&)> callback) override {
    on_state_ = std::move(callback);
  }
  void announce_clients(std::vector<ports::ConnectionClient> all) override {
    clients = std::move(all);
  }
  void on_partner(std::function<void(const ports::Partner&)> callback) override {
    on_partner_ = std::move(callback);
  }
  void read_partner_state(ports::Done<std::vector<std::byte>> done) override {
    if (hold_reads) {
      reads.push_back(std::move(done));
      return;
    }
    scheduler_.post([this, done = std::move(done)]() mutable {
      if (partner_state) return done(partner_state());
      done(fail(ErrorCode::disconnected, "nobody there"));
    });
  }
  void send(std::vector<std::byte> message, ports::Done<void> done) override {
    sent.push_back(std::move(message));
    scheduler_.post([done = std::move(done)]() mutable { done({}); });
  }
  void on_message(std::function<void(Bytes)> callback) override {
    on_message_ = std::move(callback);
  }
  void publish_state(Bytes structure) override {
    published.assign(structure.begin(), structure.end());
  }
  void restart(BootNonce nonce) override { restarts.push_back(nonce); }

 private:
  ports::Scheduler& scheduler_;
  ports::LinkState state_ = ports::LinkState::down;
  std::function<void(ports::LinkState, const std::string&)> on_state_;
  std::function<void(const ports::Partner&)> on_partner_;
  std::function<void(Bytes)> on_message_;
};

}  // namespace duet::simulation
