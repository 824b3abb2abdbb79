// NVRAM in ordinary memory. It outlives the services of a test, as the real one outlives processes.
#pragma once

#include <algorithm>
#include <vector>

#include "ports/nvram.h"

namespace duet::simulation {

class FakeNvram final : public ports::Nvram {
 public:
  explicit FakeNvram(std::size_t size, bool is_persistent = true)
      : bytes_(size), persistent_(is_persistent) {}

  MutableBytes region() override { return bytes_; }
  bool persistent() const override { return persistent_; }
  void copy(MutableBytes to, Bytes from) override { std::ranges::copy(from, to.begin()); }
  void persist(Bytes) override {}

 private:
  std::vector<std::byte> bytes_;
  bool persistent_;
};

}  // namespace duet::simulation
