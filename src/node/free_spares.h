// The spares of our own identity that RAID leaves to a dump, as our supervisor knows them. One that
// RAID is about to take is out of them before it is touched; one more is in only when the layout on
// the disks says so, too (docs/protocols/coredump.md, C9, C10).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "node/engine_channel.h"
#include "ports/scheduler.h"

namespace duet::node {

class FreeSpares {
 public:
  struct Ports {
    std::function<void(const FreeSparesFact&)> tell;
    std::function<std::uint64_t()> now;  // those that RAID leaves alone at this moment, by index
    // The layout of this moment is on the disks.
    std::function<void(ports::Done<void>)> when_on_disk;
  };
  // `last_number`: of a fact told, by whoever was here before us, too.
  FreeSpares(Ports ports, std::uint64_t& last_number);
  ~FreeSpares() { *alive_ = false; }

  // Now and then: tells what has changed.
  void look();
  // `then` when the supervisor has heard that RAID takes it. Once more for the same disk: then the
  // last one counts.
  void take(std::uint8_t index, ports::Task then);
  void heard(std::uint64_t number);
  // None any more, as the identity goes.
  void close();

 private:
  void say(std::uint64_t spares);

  struct Taking {
    std::uint64_t number = 0;
    ports::Task then;
  };
  Ports ports_;
  std::uint64_t& last_number_;
  std::uint64_t said_ = 0;
  std::uint64_t coming_ = 0;  // until they are spares on the disks, too
  bool settling_ = false;
  std::map<std::uint8_t, Taking> taking_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::node
