// Finds the dumps on the disks of the identities that are served, and has the engine collect them:
// each disk that could carry one is looked at once, when it is ours. A dump that nobody writes any
// more is marked aborted first. docs/protocols/coredump.md, "the core file".
#pragma once

#include <array>
#include <map>
#include <optional>
#include <vector>

#include "ha/dump_header.h"
#include "ha/output.h"

namespace duet::ha {

struct World;

class DumpCollector {
 public:
  static constexpr Duration look_retry = seconds(5);
  // For word of a collection under way; then it is cancelled, and stands in nobody's way.
  static constexpr Duration patience = seconds(120);

  // `served`, by identity: the engine serves it, and is not to release it.
  void advance(const World& world, const std::array<bool, 3>& served, Output& out);
  bool on_completed(const DiskCompleted& event, Output& out);
  void on_collection(const DumpCollection& event, Instant now);
  // The identity is about to be released; its dumps stay as they are.
  void cancel(NodeId identity, Output& out);
  Instant next_time() const;

  struct Collection {
    DiskRef disk;
    Instant since{};
    std::uint64_t done = 0, total = 0;  // bytes
  };
  std::vector<Collection> collections(NodeId identity) const;

 private:
  struct Disk {
    enum class State : std::uint8_t { waiting, looking, collecting, over } state = State::waiting;
    std::optional<DumpHeader> header;
    Instant due{};  // waiting: to look; collecting: patience ends
    Collection collection;
  };
  void look(DiskRef ref, Disk& disk, const World& world, Output& out);
  void settle(DiskRef ref, Disk& disk, Output& out);

  std::map<DiskRef, Disk> disks_;
};

}  // namespace duet::ha
