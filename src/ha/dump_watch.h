// The partner's disks that are left to its dump: not fenced with the others, because the partner
// panics and may write its memory there. Looks at their headers and says when each is to be fenced;
// returned_disks.h does it. Serving never waits for them. docs/protocols/coredump.md, C3, C4.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <vector>

#include "coredump/release.h"
#include "ha/absence.h"
#include "ha/output.h"

namespace duet::ha {

struct World;

class DumpWatch {
 public:
  static constexpr Duration look_interval = milliseconds(500);
  // For a disk that was left to be fenced, before the others are given back without it.
  static constexpr Duration fence_patience = seconds(3);

  // The partner's disks that would be left to a dump of the boot that it runs now.
  static DiskSet candidates(const World& world);
  // The partner, whose boot `victim` we know, is about to be fenced: these of its disks are left.
  // None unless that boot has panicked, nor if the identity cannot be served without them.
  DiskSet begin(World& world, BootNonce victim, Output& out);
  // The partner's identity is not ours, or not any more. What was seen of this boot is kept.
  void stop();
  // `fence`: the identity is ours, and a disk may be fenced now.
  void advance(const World& world, bool fence, Output& out);
  bool on_completed(const DiskCompleted& event, Output& out);
  Instant next_time() const;

  // RAID needs it, or all of them.
  void needed(const DiskId& disk);
  void need_all();

  bool leaves(std::uint8_t disk) const;
  bool leaves_any() const;
  // Soon it will be known of each disk whose it is: a giveback waits for that.
  bool busy() const;
  // It was left and is to be fenced now: why. Until it is back.
  std::optional<coredump::Take> taken(std::uint8_t disk) const;
  void returned(std::uint8_t disk) { disks_.erase(disk); }

  struct Left {
    std::uint8_t disk = 0;
    Instant since{}, until{};                // until: at most, as known now
    std::optional<coredump::Header> header;  // of this dump
  };
  std::vector<Left> left() const;

 private:
  struct Disk {
    DiskId id;
    coredump::DiskRelease release;
    Instant since{};
    std::array<std::optional<CommandId>, coredump::header_copies> open{};
    std::array<std::optional<std::vector<std::byte>>, coredump::header_copies> copies{};
    Instant look_at{};
    Instant until{};
    bool watched = true;
    bool looked = false;
    bool needed = false;
    Instant fenced_by{};  // by then; never: that is over
    coredump::Take take = coredump::Take::leave;
  };
  coredump::Writer writer(const World& world, Instant now) const;

  NodeId identity_;
  BootNonce boot_;
  std::optional<Instant> panicked_;
  std::map<std::uint8_t, Disk> disks_;
};

}  // namespace duet::ha
