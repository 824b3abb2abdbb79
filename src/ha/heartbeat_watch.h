// Listens to the partner's heartbeat blocks on the partner's own mailbox disks: alive = a block
// changes.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "ha/config.h"
#include "ha/output.h"

namespace duet::ha {

// What one channel to the partner says.
enum class Channel : std::uint8_t { fresh, silent, unknown };

class HeartbeatWatch {
 public:
  explicit HeartbeatWatch(const Config& config);

  // Forgets all; silence counts from now.
  void restart(Instant now);
  // Silence counts only while this is called: who did not listen has heard nothing.
  void on_time(Output& out);
  bool on_completed(const DiskCompleted& event, Output& out);
  Instant next_time() const { return next_; }
  // We were not running for `gap`: that was not the partner's silence.
  void forgive(Duration gap);

  Channel channel(Instant now) const;
  // Of the block that changed last; nothing before the first change.
  const std::optional<Heartbeat>& last() const { return last_; }
  Instant last_change() const { return last_change_; }

  // The latest instant at which the server that wrote `block` (of mailbox disk `index`, read just
  // now) can have begun to write it, as far as we know: when we first saw it, or `now`.
  Instant seen_since(std::uint8_t index, Bytes block, Instant now) const;

 private:
  struct Disk {
    std::optional<CommandId> open;
    std::uint32_t crc = 0;  // of the content last read
    bool seen = false;
    Instant since{};  // first read of this content
    Instant read{};   // last successful read
  };

  ClusterId cluster_;
  NodeId partner_;
  Duration interval_, silence_;
  std::vector<Disk> disks_;
  std::optional<Heartbeat> last_;
  bool other_version_ = false;  // heartbeats of a version that we do not speak were seen
  Instant last_change_{};
  Instant next_{};
  Instant polled_{};
};

}  // namespace duet::ha
