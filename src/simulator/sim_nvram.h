// The NVRAM of a machine: bytes that processes see, and bytes that survive a power loss, cache line
// by cache line. It outlives the processes of its node.
#pragma once

#include <cstdint>
#include <vector>

#include "ports/nvram.h"
#include "simulation/random.h"

namespace duet::simulator {

class SimNvram {
 public:
  static constexpr std::size_t line = 64;

  SimNvram(std::size_t size, bool persistent)
      : visible_(size), durable_(size), persistent_(persistent) {}

  bool persistent() const { return persistent_; }
  Bytes visible() const { return visible_; }
  Bytes durable() const { return durable_; }
  MutableBytes region() { return visible_; }

  void persist(Bytes range);
  // A write of the partner: seen at once, durable when committed.
  void land(std::size_t offset, Bytes bytes);
  // Only some of its lines get through, and are durable.
  void land_torn(std::size_t offset, Bytes bytes, simulation::Random& random);
  void commit(std::size_t offset, std::size_t size);
  // What was not flushed may be lost, line by line; all of it if it is ordinary memory.
  void lose_power(simulation::Random& random);
  void lose_everything();  // replaced by a blank one
  void flip_bit(std::size_t offset, unsigned bit);
  // How often all of it was lost, and what it held the last time.
  std::uint64_t forgotten() const { return forgotten_; }
  // What it held when that happened last; empty: never.
  Bytes before_loss() const { return before_loss_; }

 private:
  std::uint64_t forgotten_ = 0;
  std::vector<std::byte> visible_;
  std::vector<std::byte> durable_;
  std::vector<std::byte> before_loss_;
  bool persistent_;
};

// What one process sees of it, for as long as it lives.
class NvramView final : public ports::Nvram {
 public:
  explicit NvramView(SimNvram& nvram) : nvram_(nvram) {}
  void end() { ended_ = true; }

  MutableBytes region() override { return nvram_.region(); }
  bool persistent() const override { return nvram_.persistent(); }
  void copy(MutableBytes to, Bytes from) override;
  void persist(Bytes range) override;

 private:
  SimNvram& nvram_;
  bool ended_ = false;
};

}  // namespace duet::simulator
