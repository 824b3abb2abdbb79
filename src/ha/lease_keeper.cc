#include "ha/lease_keeper.h"

#include <algorithm>

#include "base/assert.h"
#include "base/coverage.h"
#include "disk/areas.h"

namespace duet::ha {

LeaseKeeper::LeaseKeeper(const Config& config, NodeId identity)
    : identity_(identity),
      cluster_(config.cluster),
      self_(config.self),
      interval_(config.timers.heartbeat),
      lease_(config.timers.lease()),
      disks_(config.mailbox_disks_of(identity)) {}

void LeaseKeeper::start(BootNonce nonce, Epoch epoch, Output& out) {
  beat_ = Heartbeat{.cluster = cluster_,
                    .identity = identity_,
                    .server = self_,
                    .nonce = nonce,
                    .epoch = epoch,
                    .counter = counter_};
  disks_.assign(disks_.size(), Disk{});
  conflict_ = false;
  next_ = out.now();
}

void LeaseKeeper::stop(Output& out) {
  if (!beat_) return;
  beat_.reset();
  conflict_ = false;
  disks_.assign(disks_.size(), Disk{});
  until_ = Instant{};
  out.act(RenewLease{identity_, Instant{}});
}

void LeaseKeeper::on_time(Output& out) {
  if (!beat_ || paused_ || next_ > out.now()) return;
  beat_->counter = ++counter_;
  auto block = encode(*beat_);
  for (std::size_t i = 0; i < disks_.size(); ++i) {
    if (disks_[i].open || contains(left_out_, static_cast<std::uint8_t>(i))) continue;
    disks_[i].issued = out.now();
    disks_[i].open = out.disk({identity_, static_cast<std::uint8_t>(i)},
                              WriteBlock{disk::heartbeat_block.offset, block});
  }
  next_ = out.now() + interval_;
}

bool LeaseKeeper::on_completed(const DiskCompleted& event, Output& out) {
  for (auto& disk : disks_) {
    if (disk.open != event.command) continue;
    disk.open.reset();
    if (event.reply) {
      disk.taken = disk.issued;
      renew(out);
    } else if (event.reply.error().code == ErrorCode::reservation_conflict) {
      conflict_ = true;
      MARK(lease_conflict);
    }
    return true;
  }
  return false;
}

// The majority-th latest of the taken instants is the latest that a majority has reached.
void LeaseKeeper::renew(Output& out) {
  std::vector<Instant> taken;
  for (const auto& disk : disks_) taken.push_back(disk.taken);
  std::ranges::sort(taken, std::greater<>());
  auto agreed = taken[taken.size() / 2];
  if (agreed == Instant{} || agreed + lease_ <= until_ || paused_ || conflict_) return;
  until_ = agreed + lease_;
  out.act(RenewLease{identity_, until_});
}

}  // namespace duet::ha
