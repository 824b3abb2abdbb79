// For tests: NVRAM whose bytes survive only if made durable. A crash may be scheduled inside a
// copy; then a random part of its lines has got through, and everything later is lost.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "ports/nvram.h"

namespace duet::nvlog {

class SimNvram final : public ports::Nvram {
 public:
  explicit SimNvram(std::size_t size, bool is_persistent = true)
      : visible_(size), durable_(size), persistent_(is_persistent) {}

  MutableBytes region() override { return visible_; }
  bool persistent() const override { return persistent_; }
  void copy(MutableBytes to, Bytes from) override {
    std::memcpy(to.data(), from.data(), from.size());
    persist(to);
  }
  void persist(Bytes range) override {
    if (dead_) return;
    std::size_t at = static_cast<std::size_t>(range.data() - visible_.data());
    if (copies_to_crash_ && --copies_to_crash_ == 0) {
      dead_ = true;
      land_some_lines(at, range.size());
      return;
    }
    std::memcpy(&durable_[at], range.data(), range.size());
  }

  // The copies-th copy from now on is torn, and the owner is dead.
  void crash_in(std::size_t copies, std::uint64_t seed) {
    copies_to_crash_ = copies;
    random_.seed(seed);
  }
  bool dead() const { return dead_; }
  // The process (and power, unless volatile) is back: only what was durable is there. A region that
  // is not persistent keeps its bytes over a process crash but not over `power` loss.
  void restart(bool power = false) {
    if (power && !persistent_) std::ranges::fill(durable_, std::byte{0});
    visible_ = durable_;
    dead_ = false;
    copies_to_crash_ = 0;
  }
  // A one-sided write of the partner that landed only in part, durable line by line.
  void write_torn(std::size_t offset, Bytes bytes, std::mt19937_64& random) {
    for (std::size_t i = 0; i < bytes.size(); i += 64)
      if (random() % 2 == 0) {
        std::size_t n = std::min<std::size_t>(64, bytes.size() - i);
        std::memcpy(&visible_[offset + i], &bytes[i], n);
        std::memcpy(&durable_[offset + i], &bytes[i], n);
      }
  }
  void write_remote(std::size_t offset, Bytes bytes) {
    std::memcpy(&visible_[offset], bytes.data(), bytes.size());
    std::memcpy(&durable_[offset], bytes.data(), bytes.size());
  }

 private:
  void land_some_lines(std::size_t at, std::size_t size) {
    for (std::size_t i = at; i < at + size; i += 64)
      if (random_() % 2 == 0) {
        std::size_t n = std::min<std::size_t>(64, at + size - i);
        std::memcpy(&durable_[i], &visible_[i], n);
      }
  }

  std::vector<std::byte> visible_;
  std::vector<std::byte> durable_;
  bool persistent_;
  bool dead_ = false;
  std::size_t copies_to_crash_ = 0;
  std::mt19937_64 random_;
};

}  // namespace duet::nvlog
