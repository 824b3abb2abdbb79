// The failover monitor of a node: from what the supervisor sees of disks, links, engine, NVRAM,
// memory and addresses to the health of each module and of the node (ha/health.h). Sans-I/O: facts
// and the time are handed in.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "ha/health.h"
#include "node/config.h"
#include "node/engine_channel.h"
#include "node/service_addresses.h"
#include "ports/interconnect.h"

namespace duet::node {

// What one disk has shown lately.
class DiskTrack {
 public:
  // A command that took longer is slow: a lease would nearly have run out.
  static constexpr Duration slow = milliseconds(400);
  // Errors and slow commands count for so long.
  static constexpr Duration memory = seconds(60);
  // A path that comes back within this time was never lost.
  static constexpr Duration grace = seconds(1);

  void connection(bool connected, Instant now);
  // A command has ended after `took`; `error`: empty, or of the disk itself.
  void completed(Duration took, const std::string& error, Instant now);

  bool connected() const { return connected_; }
  bool lost(Instant now) const { return !connected_ && now - since_ >= grace; }
  bool shaky(Instant now) const { return !connected_ && !lost(now); }
  // Empty: none lately.
  std::string trouble(Instant now) const;
  bool erring(Instant now) const { return errors_ != 0 && now - error_at_ < memory; }
  bool slow_lately(Instant now) const { return slowest_ != Duration{} && now - slow_at_ < memory; }

 private:
  bool connected_ = false;
  Instant since_{};  // of the last change
  std::uint64_t errors_ = 0;
  std::string error_;
  Instant error_at_{}, slow_at_{};
  Duration slowest_{};
};

struct DiskFacts {
  std::string name;    // for people
  std::string serial;  // empty: not known
  DiskTrack track;
};
struct MemoryFacts {
  bool known = false;
  bool locked = false;
  std::uint64_t available = 0;  // bytes
};
// The other node, as it introduced itself over the interconnect.
struct PartnerFacts {
  std::string software;
  std::uint64_t nvram_size = 0;  // bytes; 0: not told
};

struct HealthFacts {
  std::array<std::vector<DiskFacts>, 3> disks;  // by home node
  ports::LinkState link{};
  std::string link_why;
  std::optional<PartnerFacts> partner;             // none: not met since our boot
  std::optional<ha::HealthRecord> partner_health;  // fresh
  bool engine_running = false, engine_ready = false;
  Duration engine_silence{};  // since its last progress
  EngineReport engine;
  bool nvram_persistent = false;
  MemoryFacts memory;
  std::array<ServiceAddresses::Report, 3> addresses;  // by identity
  std::array<bool, 3> served{};                       // by identity, as the core says
  std::int64_t wall_ns = 0;
};

// The record without what the core fills in. Pure.
ha::HealthRecord evaluate_health(const Config& config, const HealthFacts& facts, Instant now);

}  // namespace duet::node
