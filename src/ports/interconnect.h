// The supervisor's end of the cluster interconnect: the connection manager's link to the partner
// (docs/protocols/interconnect.md). Named states instead of hangs; every operation has a timeout.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "ports/scheduler.h"

namespace duet::ports {

// Where the bring-up stands; `duet status` shows it.
enum class LinkState : std::uint8_t {
  down,                   // nothing answers at the partner's address; trying for ever, cheaply
  connecting,             // transport connected, read-write-read-write not finished
  ready,                  // both directions work, client information exchanged
  partner_is_self,        // the address configured for the partner is our own
  wrong_cluster,          // the partner belongs to another cluster
  wrong_node,             // right cluster, but a node number that is not our partner's
  incompatible_version,   // no common protocol version
  authentication_failed,  // the partner does not know the cluster secret
  partner_not_ready,      // connected, but the partner's connection manager does not go on: half-booted
};
std::string_view name(LinkState state);

class Interconnect {
 public:
  virtual ~Interconnect() = default;

  virtual LinkState state() const = 0;
  // Called on every change of state(), with a sentence for people ("partner 127.0.0.2:7001 says
  // cluster 'lab', ours is 'demo'").
  virtual void on_state(std::function<void(LinkState, const std::string& why)> callback) = 0;

  // One-sided read of the partner's state structure: raw bytes, to be validated by the reader.
  // Works whatever the partner's state is as long as the transport is connected, and says nothing
  // about readiness. Errors: disconnected, timed_out.
  virtual void read_partner_state(Done<std::vector<std::byte>> done) = 0;

  // Messages: at most `max_message` bytes, in order, at most once. Errors: disconnected, busy
  // (too many under way), timed_out.
  static constexpr std::size_t max_message = 4096;
  virtual void send(std::vector<std::byte> message, Done<void> done) = 0;
  virtual void on_message(std::function<void(Bytes message)> callback) = 0;

  // Our state structure, which the partner reads: copied whole. Never fails.
  virtual void publish_state(Bytes structure) = 0;
};

}  // namespace duet::ports
