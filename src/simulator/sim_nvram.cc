#include "simulator/sim_nvram.h"

#include <algorithm>
#include <cstring>

namespace duet::simulator {

void SimNvram::persist(Bytes range) {
  if (range.empty()) return;
  auto at = static_cast<std::size_t>(range.data() - visible_.data());
  ASSERT(at <= visible_.size() && range.size() <= visible_.size() - at);
  std::memcpy(&durable_[at], &visible_[at], range.size());
}

void SimNvram::land(std::size_t offset, Bytes bytes) {
  ASSERT(offset <= visible_.size() && bytes.size() <= visible_.size() - offset);
  if (!bytes.empty()) std::memcpy(&visible_[offset], bytes.data(), bytes.size());
}

void SimNvram::land_torn(std::size_t offset, Bytes bytes, simulation::Random& random) {
  for (std::size_t i = 0; i < bytes.size(); i += line) {
    if (!random.chance(1, 2)) continue;
    auto n = std::min(line, bytes.size() - i);
    land(offset + i, bytes.subspan(i, n));
    commit(offset + i, n);
  }
}

void SimNvram::commit(std::size_t offset, std::size_t size) {
  persist(Bytes(visible_).subspan(offset, size));
}

void SimNvram::lose_power(simulation::Random& random) {
  if (!persistent_) return lose_everything();
  for (std::size_t i = 0; i < visible_.size(); i += line) {
    auto n = std::min(line, visible_.size() - i);
    if (std::memcmp(&visible_[i], &durable_[i], n) == 0) continue;
    // A cache writes a line back when it likes.
    if (random.chance(1, 2)) {
      std::memcpy(&durable_[i], &visible_[i], n);
    } else {
      std::memcpy(&visible_[i], &durable_[i], n);
    }
  }
}

void SimNvram::lose_everything() {
  ++forgotten_;
  before_loss_ = visible_;
  std::ranges::fill(visible_, std::byte{0});
  std::ranges::fill(durable_, std::byte{0});
}

void SimNvram::flip_bit(std::size_t offset, unsigned bit) {
  visible_[offset] ^= std::byte{1} << (bit & 7);
  durable_[offset] = visible_[offset];
}

void NvramView::copy(MutableBytes to, Bytes from) {
  if (ended_ || from.empty()) return;
  std::memcpy(to.data(), from.data(), from.size());
  nvram_.persist(to.first(from.size()));
}

void NvramView::persist(Bytes range) {
  if (!ended_) nvram_.persist(range);
}

}  // namespace duet::simulator
