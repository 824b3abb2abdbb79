// One checker per invariant of the system (ARCHITECTURE.md, "What must always be true"). They look
// at a world from the outside: what lands on the disks, who answers clients, the registered keys,
// the NVRAM of both nodes, the mailboxes. A violated one says what it saw: World::violate().
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ha/mailbox.h"
#include "interconnect/state_structure.h"
#include "nvlog/position.h"
#include "nvlog/record.h"
#include "nvlog/region.h"
#include "simulator/checkers_dump.h"
#include "simulator/sim_disk.h"
#include "simulator/sim_network.h"
#include "simulator/workload.h"
#include "simulator/world.h"

namespace duet::simulator {

struct Checker {
  std::string_view invariant;
  std::string_view definition;
  std::string_view where;  // in this simulator, for people
};
std::span<const Checker> all_checkers();

class Checkers {
 public:
  // Of what is not seen from event to event.
  static constexpr Duration look_interval = DumpCheckers::look_interval;
  // A node that fences or claims registers its keys first; this long, with all its retries, a
  // foreign key may be seen beside those of the node that serves.
  static constexpr Duration foreign_key_limit = seconds(10);
  // A node whose progress has stood still for this long gets nothing back; the survivor's own limit
  // is far shorter, but its mailbox write may be slow.
  static constexpr Duration progress_limit = seconds(8);
  // A starved node may see the completion of its mirror, and answer, so much later.
  static constexpr Duration answer_delay_max = seconds(20);

  // Both outlive us.
  Checkers(World& world, Workload& workload);
  ~Checkers();

  const DumpCheckers& dumps() const { return dumps_; }
  // I18. Requires: no fault since `since`.
  void check_liveness(Instant since);

 private:
  struct Identity {
    NodeId id;
    std::optional<ha::Mailbox> mailbox;  // the newest one that was written
    struct {
      std::uint64_t changes = 0;  // of its units, when they were read
      std::optional<ha::Mailbox> mailbox;
    } on_disk;
    struct {
      std::uint64_t changes = 0;
      nvlog::LogPosition position;
    } superblock_on_disk;
    struct {
      NodeId node;
      Epoch epoch;
    } answered;  // under the newest epoch
    std::array<bool, 3> was_serving{};
    struct Landing {  // of a superblock that not every member has yet
      std::uint64_t generation = 0;
      std::set<const SimUnit*> units;
    };
    Landing landing;
    std::uint64_t pool_generation = 0;
    nvlog::LogPosition position;  // of the newest superblock
    Epoch pool_epoch;
  };
  struct Unit {
    SimUnit* unit = nullptr;
    bool reserved = false;  // since it has power
    std::uint32_t generation = 0;
    std::optional<Instant> foreign_since;
  };
  struct Node {
    std::uint64_t progress = 0;
    BootNonce nonce;
    Instant progressed{};
    std::uint64_t forgotten = 0;  // SimNvram::forgotten, as last seen
    Instant forgot{};
    bool uncoordinated = false;  // its last giveback was ordered so
  };

  void on_landed(const SimUnit& unit, const SimUnit::Landed& landed);
  void check_mailbox_write(Identity& identity, NodeId writer, const SimUnit& unit, Bytes block);
  bool served_without(NodeId node, const SimUnit& unit) const;
  void check_giveback(const ha::Mailbox& before, const ha::Mailbox& after, NodeId writer);
  void check_superblock_write(Identity& identity, const SimUnit& unit, Bytes block);
  void on_server_send(const ClientNetwork::ServerSend& send);
  void on_acknowledged(const BlockRange& range, Stamp stamp);
  bool forgot_lately(NodeId node);
  bool is_write(const nvlog::RecordView& record, const BlockRange& range, Stamp stamp) const;
  std::optional<nvlog::RecordView> find_write(NodeId node, const BlockRange& range, Stamp stamp);
  void on_trace(std::string_view who, std::string_view text);
  void check_replay(NodeId node, NodeId identity);
  void check_units();
  void look();
  void look_at_service(Identity& identity);
  void look_at_keys(Unit& unit);
  void look_at_progress(NodeId node);
  void look_again();

  // The newest valid one on any disk of the identity, whatever its power.
  const std::optional<ha::Mailbox>& mailbox_on_disk(NodeId identity);
  nvlog::LogPosition position_on_disk(NodeId identity);
  Bytes region(NodeId node) const;
  void violate(NodeId identity, std::string_view invariant, std::string what);
  std::string name(NodeId node) const;

  World& world_;
  Workload& workload_;
  DumpCheckers dumps_;
  std::array<Identity, 3> identities_;
  std::vector<Unit> units_;
  std::array<Node, 3> nodes_;
  nvlog::RegionLayout layout_;
  // Where the writes of a ring lie, by stamp: as far as it has been read.
  struct Index {
    std::uint64_t cursor = 0;
    std::unordered_map<Stamp, std::uint64_t> addresses;
  };
  std::array<std::array<Index, 3>, 3> indexes_;  // by node and identity
  // What a log, from one consistency point to one end, makes of its LUNs.
  struct Replayed {
    nvlog::LogPosition from, end;
    std::uint64_t digest = 0;
  };
  std::array<std::optional<Replayed>, 3> replayed_;  // by identity
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::simulator
