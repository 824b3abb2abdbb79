#include "ha/heartbeat_watch.h"

#include <algorithm>

#include "base/crc32c.h"
#include "disk/areas.h"

namespace duet::ha {

HeartbeatWatch::HeartbeatWatch(const Config& config)
    : cluster_(config.cluster),
      partner_(config.partner()),
      interval_(config.timers.heartbeat),
      silence_(config.timers.mailbox_silence),
      disks_(config.mailbox_disks_of(config.partner())) {}

void HeartbeatWatch::restart(Instant now) {
  disks_.assign(disks_.size(), Disk{});
  last_.reset();
  other_version_ = false;
  last_change_ = now;
  next_ = now;
  polled_ = now;
}

void HeartbeatWatch::forgive(Duration gap) {
  last_change_ += gap;
  polled_ += gap;
  for (auto& disk : disks_) disk.read += gap;
}

void HeartbeatWatch::on_time(Output& out) {
  if (next_ > out.now()) return;
  if (auto gap = out.now() - polled_; gap > 3 * interval_) forgive(gap);
  polled_ = out.now();
  next_ = out.now() + interval_;
  for (std::size_t i = 0; i < disks_.size(); ++i) {
    if (disks_[i].open) continue;
    disks_[i].open =
        out.disk({partner_, static_cast<std::uint8_t>(i)}, ReadBlock{disk::heartbeat_block.offset});
  }
}

bool HeartbeatWatch::on_completed(const DiskCompleted& event, Output& out) {
  for (auto& disk : disks_) {
    if (disk.open != event.command) continue;
    disk.open.reset();
    if (!event.reply) return true;
    auto* bytes = std::get_if<std::vector<std::byte>>(&*event.reply);
    if (bytes == nullptr) return true;
    disk.read = out.now();
    auto crc = crc32c(*bytes);
    bool first = !disk.seen;
    if (!first && crc == disk.crc) return true;
    disk.seen = true;
    disk.crc = crc;
    disk.since = out.now();
    // Only the partner's own heartbeats are a sign of its life; damage and our own are not.
    auto beat = decode_heartbeat(*bytes);
    if (!first && !beat && beat.error().code == ErrorCode::unsupported_version) {
      other_version_ = true;  // alive all the same
      last_change_ = out.now();
      return true;
    }
    if (first || !beat || beat->cluster != cluster_ || beat->identity != partner_ ||
        beat->server != partner_) {
      return true;
    }
    last_ = *beat;
    last_change_ = out.now();
    return true;
  }
  return false;
}

Channel HeartbeatWatch::channel(Instant now) const {
  if ((last_ || other_version_) && now - last_change_ < silence_) return Channel::fresh;
  auto recent = std::ranges::count_if(
      disks_, [&](const Disk& disk) { return disk.seen && now - disk.read < silence_ / 2; });
  bool readable = static_cast<std::size_t>(recent) >= disks_.size() / 2 + 1;
  if (!readable || now - last_change_ < silence_) return Channel::unknown;
  return Channel::silent;
}

Instant HeartbeatWatch::seen_since(std::uint8_t index, Bytes block, Instant now) const {
  const auto& disk = disks_.at(index);
  return disk.seen && disk.crc == crc32c(block) ? disk.since : now;
}

}  // namespace duet::ha
