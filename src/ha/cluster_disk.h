// Test helper: one shared disk with blocks and SCSI-3 persistent reservations (SPC-4 5.12, the
// types "registrants only"), as the two supervisors and two engines of a pair see it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "ha/events.h"

namespace duet::ha::testing {

// An I_T nexus: a process of a node.
struct Nexus {
  NodeId node;
  bool engine = false;
  auto operator<=>(const Nexus&) const = default;
};

class ClusterDisk {
 public:
  bool may_read(Nexus nexus) const;
  bool may_write(Nexus nexus) const;
  // Reservation commands and reads: at once. `preempted`: who lost a registration; `abort`: their
  // commands under way end without effect.
  struct Effects {
    std::vector<Nexus> preempted;
    bool abort = false;
  };
  Result<DiskReply> execute(Nexus nexus, const DiskOperation& operation, Effects& effects);

  std::vector<std::byte> read(std::uint64_t offset) const;
  void write(std::uint64_t offset, std::vector<std::byte> block) {
    blocks_[offset] = std::move(block);
  }
  // Power lost, registrations too (no APTPL).
  void forget_registrations() {
    keys_.clear();
    holder_.reset();
  }
  bool reserved() const { return holder_.has_value(); }
  bool registered(Nexus nexus) const { return keys_.contains(nexus); }
  ReservationKey holder_key() const { return holder_ ? keys_.at(*holder_) : ReservationKey(0); }

 private:
  Result<DiskReply> conflict() const;
  Result<DiskReply> preempt(Nexus nexus, const Preempt& p, Effects& effects);

  std::map<std::uint64_t, std::vector<std::byte>> blocks_;
  std::map<Nexus, ReservationKey> keys_;
  std::optional<Nexus> holder_;
  ports::ReservationType type_{};
  std::uint32_t generation_ = 0;
};

}  // namespace duet::ha::testing
