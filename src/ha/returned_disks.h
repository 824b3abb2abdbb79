// A disk that an identity is served without comes back: it is fenced like any other of the
// identity, and only then the engine may touch it (docs/protocols/absent_disks.md).
#pragma once

#include <array>
#include <map>

#include "ha/disk_fencer.h"
#include "ha/dump_header.h"
#include "ha/world.h"

namespace duet::ha {

class ReturnedDisks {
 public:
  static constexpr Duration return_retry = seconds(1);

  // `held`: by identity. `modes`: how its disks are taken; nothing: not now.
  void advance(World& world, const std::array<std::optional<FenceMode>, 3>& modes,
               const std::array<ports::ReservationType, 3>& types, Output& out);
  bool on_completed(const DiskCompleted& event, Output& out);
  Instant next_time() const;

 private:
  struct Running {
    DiskFencer fencer;
    std::optional<DumpHeader> header;  // of one that was left to a dump, behind the fence
  };
  static DumpHeader::Rules header_rules(const World& world, std::uint8_t disk);
  // False: it is not over yet.
  bool settle(Running& running, DiskRef ref, World& world, Output& out);

  std::map<DiskRef, Running> running_;
  std::map<DiskRef, Instant> rest_;
};

}  // namespace duet::ha
