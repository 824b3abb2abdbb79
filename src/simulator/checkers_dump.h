// What coredumps may do and may not (docs/protocols/coredump.md): I11, C1, C2, C8 on the disk, C3
// and C4 by the clock.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "coredump/header.h"
#include "simulator/sim_core_source.h"
#include "simulator/sim_disk.h"
#include "simulator/world.h"

namespace duet::simulator {

class DumpCheckers {
 public:
  // For a survivor to serve for a node whose engine stands still: since then, and since the last
  // fault; what befalls coredump disks is none. The node itself ends the dump earlier
  // (ha::dump_patience).
  static constexpr Duration serve_limit = seconds(12);
  // The same if nothing but the panic had happened for so long.
  static constexpr Duration quick_limit = seconds(2);
  static constexpr Duration quiet = seconds(12);
  // For a disk that was left to be taken: beyond the limit of the dump.
  static constexpr Duration take_patience = seconds(15);

  static constexpr Duration look_interval = milliseconds(20);

  explicit DumpCheckers(World& world);
  ~DumpCheckers();

  void on_landed(const SimUnit& unit, NodeId writer, const SimUnit::Landed& landed);
  void on_trace(std::string_view who, std::string_view text);
  void look();  // every look_interval

  // The memory that the dump of this name was made of; null: there was none.
  const DumpedMemory* memory(const std::string& id) const;
  // Of this identity: said to be there as core files, and not said to be removed.
  const std::set<std::string>& saved(NodeId identity) const { return saved_[identity.value()]; }

 private:
  using Place = std::pair<NodeId, std::size_t>;

  void on_begun(const SimUnit& unit, const SimUnit::Begun& begun);
  void check_header(const SimUnit& unit, NodeId writer, const coredump::Header& header);
  void check_chunk(const SimUnit& unit, Bytes chunk);
  void look_at_service(NodeId dumping);
  void look_at_left_disks(NodeId identity);
  bool in_order(const SimUnit& unit, NodeId node) const;
  std::string name(NodeId node) const;

  World& world_;
  std::map<std::string, std::shared_ptr<DumpedMemory>> memories_;
  std::array<std::set<std::string>, 3> saved_;
  struct Panicked {
    Instant unserved_since{};
    std::optional<Instant> quiet_until;  // the panic: no other fault had happened for long
  };
  std::array<std::optional<Panicked>, 3> panicked_;  // their engines stand still, nobody serves
  Instant last_fault_{}, fault_before_{};
  std::map<Place, Instant> left_since_;
};

}  // namespace duet::simulator
