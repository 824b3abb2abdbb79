// The addresses of one node on a network segment that several nodes may share: who has which
// address, until when, and what was announced.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "ports/addresses.h"

namespace duet::simulation {

class FakeAddresses;

// What all nodes see: who answers for an address.
class FakeSegment {
 public:
  std::vector<FakeAddresses*> holders(const IpAddress& address) const;

 private:
  friend class FakeAddresses;
  std::vector<FakeAddresses*> nodes_;
};

class FakeAddresses final : public ports::Addresses {
 public:
  struct Sent {
    Instant when{};
    IpAddress address;
    bool operator==(const Sent&) const = default;
  };
  struct Tickle {
    Instant when{};
    IpAddress address;
    std::uint16_t port = 0;
    std::vector<Endpoint> clients;
  };

  explicit FakeAddresses(ports::Scheduler& scheduler, FakeSegment* segment = nullptr)
      : scheduler_(scheduler), segment_(segment) {
    if (segment_ != nullptr) segment_->nodes_.push_back(this);
  }
  ~FakeAddresses() override {
    if (segment_ != nullptr) std::erase(segment_->nodes_, this);
  }

  // ---- the test's side ----
  bool has(const IpAddress& address) const {
    auto it = until_.find(address);
    return it != until_.end() && scheduler_.now() < it->second;
  }
  void leave_behind(const IpAddress& address) { until_[address] = Instant::max(); }
  void set_link(bool up) {
    link_ = up;
    if (on_link_) on_link_();
  }
  void claim_elsewhere(const ports::ServiceAddress& address, const std::string& hardware) {
    if (on_duplicate_) on_duplicate_(address, hardware);
  }
  std::string refuse_up;    // not empty: why addresses cannot be brought up
  std::string refuse_down;  // or taken down
  bool hold_up = false;     // bring_up is done by the kernel, but says so only with answer()
  void answer() {
    for (auto& done : std::exchange(held_, {})) done({});
  }
  int ups = 0, downs = 0;
  std::vector<Sent> announced, probed;
  std::vector<Tickle> tickled;

  // ---- ports::Addresses ----
  void bring_up(const ports::ServiceAddress& address, Duration lifetime,
                ports::Done<void> done) override {
    ++ups;
    if (!refuse_up.empty()) return fail_later(std::move(done), refuse_up);
    until_[address.address] = scheduler_.now() + lifetime;
    if (hold_up) {
      held_.push_back(std::move(done));
      return;
    }
    scheduler_.post([done = std::move(done)]() mutable { done({}); });
  }
  void take_down(const ports::ServiceAddress& address, ports::Done<void> done) override {
    ++downs;
    if (!refuse_down.empty()) return fail_later(std::move(done), refuse_down);
    until_.erase(address.address);
    scheduler_.post([done = std::move(done)]() mutable { done({}); });
  }
  void announce(const ports::ServiceAddress& address) override {
    announced.push_back({scheduler_.now(), address.address});
  }
  void probe(const ports::ServiceAddress& address) override {
    probed.push_back({scheduler_.now(), address.address});
    if (segment_ == nullptr) return;
    for (auto* other : segment_->holders(address.address)) {
      if (other == this) continue;
      scheduler_.post([this, address] { claim_elsewhere(address, "02:00:00:00:00:99"); });
    }
  }
  void tickle(const ports::ServiceAddress& address, std::uint16_t port,
              const std::vector<Endpoint>& clients) override {
    tickled.push_back({scheduler_.now(), address.address, port, clients});
  }
  ports::AddressReport look(const ports::ServiceAddress& address) override {
    return {true, link_, has(address.address)};
  }
  void on_link(std::function<void()> callback) override { on_link_ = std::move(callback); }
  void on_duplicate(
      std::function<void(const ports::ServiceAddress&, const std::string&)> callback) override {
    on_duplicate_ = std::move(callback);
  }

 private:
  void fail_later(ports::Done<void> done, const std::string& why) {
    scheduler_.post(
        [done = std::move(done), why]() mutable { done(fail(ErrorCode::refused, why)); });
  }

  ports::Scheduler& scheduler_;
  FakeSegment* segment_;
  bool link_ = true;
  std::map<IpAddress, Instant> until_;  // what the kernel has
  std::vector<ports::Done<void>> held_;
  std::function<void()> on_link_;
  std::function<void(const ports::ServiceAddress&, const std::string&)> on_duplicate_;
};

inline std::vector<FakeAddresses*> FakeSegment::holders(const IpAddress& address) const {
  std::vector<FakeAddresses*> found;
  std::ranges::copy_if(nodes_, std::back_inserter(found),
                       [&](const auto* node) { return node->has(address); });
  return found;
}

}  // namespace duet::simulation
