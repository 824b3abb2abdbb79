#include "disk/reservation_key.h"

#include <fmt/format.h>

namespace duet::disk {
namespace {

std::uint16_t short_id(ClusterId cluster) {
  return static_cast<std::uint16_t>(cluster.value());
}

}  // namespace

ReservationKey make_key(ClusterId cluster, NodeId node, KeyRole role, Epoch epoch) {
  ASSERT(node == NodeId(1) || node == NodeId(2));
  return ReservationKey(std::uint64_t{short_id(cluster)} << 48 | std::uint64_t{node.value()} << 40 |
                        std::uint64_t{static_cast<std::uint8_t>(role)} << 32 |
                        (epoch.value() & 0xffffffff));
}

std::optional<KeyParts> parse_key(ReservationKey key) {
  KeyParts parts{.cluster = static_cast<std::uint16_t>(key.value() >> 48),
                 .node = NodeId(static_cast<std::uint8_t>(key.value() >> 40)),
                 .role = static_cast<KeyRole>(key.value() >> 32 & 0xff),
                 .epoch = static_cast<std::uint32_t>(key.value())};
  if (parts.node != NodeId(1) && parts.node != NodeId(2)) return std::nullopt;
  if (parts.role != KeyRole::supervisor && parts.role != KeyRole::engine) return std::nullopt;
  return parts;
}

bool is_ours(ReservationKey key, ClusterId cluster) {
  auto parts = parse_key(key);
  return parts && parts->cluster == short_id(cluster);
}

bool belongs_to(ReservationKey key, NodeId node, ClusterId cluster) {
  auto parts = parse_key(key);
  return parts && parts->cluster == short_id(cluster) && parts->node == node;
}

std::string describe(ReservationKey key) {
  auto parts = parse_key(key);
  if (!parts) return fmt::format("{:#018x}", key.value());
  return fmt::format("node {} {}, epoch {} ({:#018x})", parts->node.value(),
                     parts->role == KeyRole::supervisor ? "supervisor" : "engine", parts->epoch,
                     key.value());
}

}  // namespace duet::disk
