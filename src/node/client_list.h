// Who has connections to an identity, told to the partner so that it can tickle them after a
// takeover (docs/formats/ha_messages.md, client list). Foreign when it arrives; losing it is
// harmless.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/ip_address.h"
#include "base/result.h"
#include "base/time.h"

namespace duet::node {

struct ClientList {  // one part
  ClusterId cluster;
  NodeId sender;
  NodeId identity;
  std::uint8_t part = 0;
  std::uint8_t parts = 1;
  std::vector<Endpoint> clients;
  bool operator==(const ClientList&) const = default;
};

inline constexpr std::size_t max_clients_in_part = 128;
inline constexpr std::size_t max_client_parts = 8;
inline constexpr std::size_t max_listed_clients = max_clients_in_part * max_client_parts;

// Requires: bounds kept.
std::vector<std::byte> encode(const ClientList& list);
// Error: invalid.
Result<ClientList> decode_client_list(Bytes bytes);
// Whether a message is for us to decode, and not for the HA core.
bool is_client_list(Bytes bytes);

// Both nodes' lists. Sans-I/O.
class ClientLists {
 public:
  static constexpr Duration refresh_interval = seconds(5);

  ClientLists(ClusterId cluster, NodeId self) : cluster_(cluster), self_(self) {}

  // The clients of an identity that we serve, now; at most max_listed_clients are told. Returns the
  // messages to send: none while the partner knows.
  std::vector<std::vector<std::byte>> on_own(NodeId identity, std::vector<Endpoint> clients,
                                             Instant now);
  // The partner may have forgotten, or is new: everything is told again.
  void on_partner() { told_ = {}; }
  // A message for which is_client_list().
  void on_message(Bytes bytes);
  // What the partner last said about an identity.
  std::vector<Endpoint> of_partner(NodeId identity) const;
  std::uint64_t invalid() const { return invalid_; }

 private:
  struct Told {
    bool ever = false;
    Instant when{};
    std::vector<Endpoint> clients;
  };
  ClusterId cluster_;
  NodeId self_;
  std::array<Told, 3> told_;                                 // by identity
  std::array<std::vector<std::vector<Endpoint>>, 3> heard_;  // by identity, parts
  std::uint64_t invalid_ = 0;
};

}  // namespace duet::node
