// The supervisor's end of the cluster interconnect: the connection manager's link to the partner
// (docs/protocols/interconnect.md). Named states instead of hangs; every operation has a timeout.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
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
  partner_not_ready,  // connected, but the partner's connection manager does not go on: half-booted
};
inline std::string_view name(LinkState state) {
  switch (state) {
    case LinkState::down:
      return "down";
    case LinkState::connecting:
      return "connecting";
    case LinkState::ready:
      return "ready";
    case LinkState::partner_is_self:
      return "partner is self";
    case LinkState::wrong_cluster:
      return "wrong cluster";
    case LinkState::wrong_node:
      return "wrong node";
    case LinkState::incompatible_version:
      return "incompatible version";
    case LinkState::authentication_failed:
      return "authentication failed";
    case LinkState::partner_not_ready:
      return "partner not ready";
  }
  return "?";
}

// What a connection client (a module that uses the interconnect, such as the NVRAM mirror) needs;
// each node tells the partner about its own. The manager carries this and knows nothing of what it
// means.
struct ConnectionClient {
  std::string name;            // 1..31 characters; the same on both nodes
  std::uint16_t ports = 0;     // connections it wants
  std::uint64_t memory = 0;    // bytes it offers to, or wants from, the partner's client
  std::uint16_t tcp_port = 0;  // where its own listener is; 0: not yet
  bool operator==(const ConnectionClient&) const = default;
};
inline constexpr std::size_t max_connection_clients = 16;

struct Partner {
  NodeId node;
  BootNonce nonce;
  std::uint16_t protocol_version = 0;  // the agreed one
  std::string software;                // for people
  std::vector<ConnectionClient> clients;
  bool operator==(const Partner&) const = default;
};

class Interconnect {
 public:
  virtual ~Interconnect() = default;

  virtual LinkState state() const = 0;
  // Called on every change of state(), with a sentence for people ("partner 127.0.0.2:7001 says
  // cluster 'lab', ours is 'demo'").
  virtual void on_state(std::function<void(LinkState, const std::string& why)> callback) = 0;

  // Our connection clients, all of them; may change at any time. Requires: at most
  // max_connection_clients.
  virtual void announce_clients(std::vector<ConnectionClient> clients) = 0;
  // Called after each change to `ready`, and when the partner's clients change while ready.
  virtual void on_partner(std::function<void(const Partner&)> callback) = 0;

  // One-sided read of the partner's state structure: raw bytes, to be validated by the reader.
  // Works whatever the partner's state is as long as the transport is connected, and says nothing
  // about readiness. Errors: disconnected, timed_out.
  virtual void read_partner_state(Done<std::vector<std::byte>> done) = 0;

  // Messages: at most `max_message` bytes, in order, at most once; also before `ready`, as soon as
  // our own direction works, so that "please die" reaches a half-alive partner. Done means that the
  // partner's transport has it. Errors: disconnected, busy (too many under way), timed_out.
  static constexpr std::size_t max_message = 4096;
  virtual void send(std::vector<std::byte> message, Done<void> done) = 0;
  virtual void on_message(std::function<void(Bytes message)> callback) = 0;

  // Our state structure, which the partner reads: copied whole. Never fails.
  virtual void publish_state(Bytes structure) = 0;

  // A new boot of this node: breaks the connections and goes through the bring-up again under
  // `nonce`.
  virtual void restart(BootNonce nonce) = 0;
};

}  // namespace duet::ports
