#include "simulator/minimize.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "simulator/sabotage.h"

namespace duet::simulator {

namespace {

constexpr unsigned max_runs = 200;

class Minimizer {
 public:
  Minimizer(RunOptions options, const FaultPlan& plan, std::string invariant,
            const Attempt& attempt)
      : best_{std::move(options), 0, 0},
        plan_(plan),
        invariant_(std::move(invariant)),
        attempt_(attempt) {}

  Minimized go(Duration violated_after) {
    cut_at(violated_after);
    for (auto kind : plan_.kinds) without(kind);
    for (auto chunk = plan_.events.size() / 2; chunk >= 1; chunk /= 2) drop_chunks(chunk);
    best_.events = left().size();
    return best_;
  }

 private:
  bool still_fails(const RunOptions& options) {
    if (best_.runs >= max_runs) return false;
    ++best_.runs;
    if (attempt_(options) != invariant_) return false;
    best_.options = options;
    return true;
  }

  // Nothing that comes after the violation matters.
  void cut_at(Duration violated_after) {
    auto options = best_.options;
    for (std::size_t i = 0; i < plan_.events.size(); ++i) {
      if (plan_.events[i].at > violated_after) options.left_out.insert(i);
    }
    if (options.left_out != best_.options.left_out) still_fails(options);
  }

  void without(Fault kind) {
    if (best_.options.without.contains(kind)) return;
    auto options = best_.options;
    options.without.insert(kind);
    still_fails(options);
  }

  std::vector<std::size_t> left() const {
    std::vector<std::size_t> indexes;
    for (std::size_t i = 0; i < plan_.events.size(); ++i) {
      if (!best_.options.left_out.contains(i) &&
          !best_.options.without.contains(plan_.events[i].fault)) {
        indexes.push_back(i);
      }
    }
    return indexes;
  }

  void drop_chunks(std::size_t chunk) {
    auto events = left();
    for (std::size_t at = 0; at < events.size(); at += chunk) {
      auto options = best_.options;
      for (std::size_t i = at; i < std::min(at + chunk, events.size()); ++i) {
        options.left_out.insert(events[i]);
      }
      still_fails(options);
    }
  }

  Minimized best_;
  const FaultPlan& plan_;
  std::string invariant_;
  const Attempt& attempt_;
};

}  // namespace

Minimized minimize(RunOptions options, const FaultPlan& plan, Duration violated_after,
                   const std::string& invariant, const Attempt& attempt) {
  return Minimizer(std::move(options), plan, invariant, attempt).go(violated_after);
}

std::string command_line(const RunOptions& options) {
  auto line = fmt::format("duet-sim --seed {}", options.seed);
  if (options.length) line += fmt::format(" --seconds {}", *options.length / seconds(1));
  for (const auto& safeguard : all_safeguards()) {
    if (options.sabotage.without(safeguard.safeguard)) {
      line += fmt::format(" --sabotage {}", safeguard.name);
    }
  }
  for (auto kind : options.without) line += fmt::format(" --without {}", name(kind));
  std::string dropped;
  for (auto index : options.left_out) {
    dropped += fmt::format("{}{}", dropped.empty() ? " --drop " : ",", index);
  }
  return line + dropped;
}

}  // namespace duet::simulator
