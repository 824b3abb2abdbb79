// The columns of each group's stripes, as a layout says.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "raid/parity.h"

namespace duet::raid {

struct GroupColumns {
  Geometry geometry;
  std::uint64_t blocks = 0;
  std::vector<std::uint32_t> members;  // by column
};

// Column of a member: data members by role, then P, then Q.
std::uint32_t column_of(const Member& member, const Geometry& geometry);
// By group; kept by whoever works on a stripe, as the layout may change meanwhile.
using Columns = std::shared_ptr<const GroupColumns>;
// Requires: the layout keeps the rules.
std::vector<Columns> map_groups(const Layout& layout);

// One stripe of the pool, as one number.
using StripeKey = std::uint64_t;
constexpr StripeKey stripe_key(std::uint16_t group, std::uint64_t stripe) {
  return std::uint64_t{group} << 48 | stripe;
}
constexpr std::uint16_t group_of(StripeKey key) {
  return static_cast<std::uint16_t>(key >> 48);
}
constexpr std::uint64_t stripe_of(StripeKey key) {
  return key & ((StripeKey{1} << 48) - 1);
}

}  // namespace duet::raid
