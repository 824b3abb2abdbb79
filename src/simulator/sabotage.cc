#include "simulator/sabotage.h"

#include <algorithm>
#include <array>

namespace duet::simulator {

namespace {

constexpr std::array named{
    NamedSafeguard{Safeguard::abort_on_preempt, "abort", "PREEMPT AND ABORT does not abort"},
    NamedSafeguard{Safeguard::window_closed, "revoke", "the mirror window is not really closed"},
};

}  // namespace

std::span<const NamedSafeguard> all_safeguards() {
  return named;
}

std::optional<Safeguard> find_safeguard(std::string_view name) {
  auto it = std::ranges::find(named, name, &NamedSafeguard::name);
  if (it == named.end()) return std::nullopt;
  return it->safeguard;
}

}  // namespace duet::simulator
