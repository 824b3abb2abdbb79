#include "node/free_spares.h"

#include <utility>
#include <vector>

#include "base/coverage.h"

namespace duet::node {

FreeSpares::FreeSpares(Ports ports, std::uint64_t& last_number)
    : ports_(std::move(ports)), last_number_(last_number) {}

void FreeSpares::say(std::uint64_t spares) {
  said_ = spares;
  ports_.tell({++last_number_, spares});
}

void FreeSpares::look() {
  const std::uint64_t now = ports_.now();
  if ((said_ & ~now) != 0) say(said_ & now);
  if (settling_) return;
  coming_ = now & ~said_;
  if (coming_ == 0) return;
  settling_ = true;
  ports_.when_on_disk([this, alive = alive_](const Result<void>& r) {
    if (!*alive) return;
    settling_ = false;
    const std::uint64_t more = std::exchange(coming_, 0) & ports_.now();
    if (r && more != 0) say(said_ | more);
  });
}

void FreeSpares::take(std::uint8_t index, ports::Task then) {
  const std::uint64_t rest = ~(std::uint64_t{1} << index);
  if ((coming_ & ~rest) != 0) {
    MARK(spare_taken_before_it_was_free);
    coming_ &= rest;
  }
  // Also if it was not among them: whether the supervisor has heard that is not known.
  say(said_ & rest);
  taking_[index] = {last_number_, std::move(then)};
}

// Facts are heard in their order.
void FreeSpares::heard(std::uint64_t number) {
  std::vector<ports::Task> taken;
  for (auto it = taking_.begin(); it != taking_.end();) {
    if (it->second.number > number) {
      ++it;
    } else {
      taken.push_back(std::move(it->second.then));
      it = taking_.erase(it);
    }
  }
  for (auto& then : taken) then();
}

void FreeSpares::close() {
  taking_.clear();
  if (said_ != 0) say(0);
}

}  // namespace duet::node
