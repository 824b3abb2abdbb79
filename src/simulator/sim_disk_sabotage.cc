// What a SimDisk does when a safeguard is left out (sabotage.h).
#include <algorithm>
#include <utility>

#include "coredump/header.h"
#include "disk/areas.h"
#include "disk/reservation_key.h"
#include "ha/mailbox.h"
#include "raid/layout.h"
#include "simulator/sim_disk.h"

namespace duet::simulator {

namespace {

constexpr std::size_t header_size = disk::area_block_size;  // of a coredump
constexpr std::uint64_t late_ms = 1500;  // what is done too late is late by up to this

bool is_mailbox(std::uint64_t offset) {
  return offset == disk::mailbox_copy(0).offset || offset == disk::mailbox_copy(1).offset;
}

}  // namespace

bool SimDisk::is_engine() const {
  return options_.role == static_cast<std::uint8_t>(disk::KeyRole::engine);
}

// True: it has been dealt with.
bool SimDisk::spoils(std::uint64_t offset, const Slice& data, ports::Done<void>& done) {
  auto answer = [&] {
    process_.post([done = std::move(done)]() mutable { done({}); });
    return true;
  };
  if (sabotage_.without(Safeguard::mark_before_ack) && is_mailbox(offset)) {
    auto wanted = ha::decode_mailbox(data.bytes);
    auto there = ha::decode_mailbox(unit_.peek(offset, ha::mailbox_block_size));
    if (wanted && there && wanted->epoch == there->epoch &&
        wanted->durability != Durability::mirrored && there->durability == Durability::mirrored) {
      return answer();
    }
  }
  if (sabotage_.without(Safeguard::mailbox_durable) && is_mailbox(offset)) {
    write_late(offset, data);
    return answer();
  }
  constexpr auto first_data = disk::data_offset + raid::reserved_blocks * raid::block_size;
  if (sabotage_.without(Safeguard::log_freed_after_cp) && is_engine() && offset >= first_data) {
    for (std::size_t at = 0; at < data.bytes.size(); at += geometry_.block_size) {
      auto bytes = data.bytes.subspan(at, geometry_.block_size);
      late_blocks_[offset + at].assign(bytes.begin(), bytes.end());
    }
    write_late(offset, data);
    return answer();
  }
  return false;
}

// It is lost if the process ends before.
void SimDisk::write_late(std::uint64_t offset, const Slice& data) {
  process_.at(process_.now() + milliseconds(random_.below(late_ms)), [this, offset, data] {
    spoiling_ = true;
    write(offset, {data}, true, [](Result<void>) {});
    spoiling_ = false;
  });
}

// After a read: what the process is made to see.
void SimDisk::falsify(std::uint64_t offset, MutableBytes read) {
  for (auto it = late_blocks_.lower_bound(offset);
       it != late_blocks_.end() && it->first < offset + read.size(); ++it) {
    std::ranges::copy(it->second, read.begin() + static_cast<std::ptrdiff_t>(it->first - offset));
  }
  if (!is_mailbox(offset) || read.size() != ha::mailbox_block_size) return;
  auto mailbox = ha::decode_mailbox(read);
  if (!mailbox) return;
  bool home = options_.node == mailbox->identity;
  if (sabotage_.without(Safeguard::taken_over_honoured) && home &&
      mailbox->taken_over_by != no_node) {
    mailbox->taken_over_by = no_node;
    mailbox->server = options_.node;
  } else if (sabotage_.without(Safeguard::stale_mark_honoured) && !home && unit_.last_mirrored_ &&
             mailbox->durability != Durability::mirrored &&
             mailbox->log_epoch == unit_.last_mirrored_->log_epoch) {
    mailbox->durability = Durability::mirrored;
    mailbox->durability_since = unit_.last_mirrored_->durability_since;
    mailbox->nvram_mirror = unit_.last_mirrored_->nvram_mirror;
  } else {
    return;
  }
  std::ranges::copy(ha::encode(*mailbox), read.begin());
}

// The data disk that a dump is diverted to. True: it landed there.
bool SimUnit::diverts(const scsi::StoreWrite& write, Bytes data) {
  if (data_disk == nullptr || !sabotage_.without(Safeguard::dump_disk_checked)) return false;
  auto header = coredump::decode_header(data.first(std::min(data.size(), header_size)));
  if (!header || write.offset + data.size() > data_disk->options_.size) return false;
  data_disk->store(write.offset, data, true);
  if (data_disk->on_landed) {
    data_disk->on_landed(*data_disk, {writer(write), write.offset, data, false});
  }
  return true;
}

bool SimDisk::waits_for_dump() const {
  return sabotage_.without(Safeguard::fence_before_dump) && !is_engine() &&
         options_.node != unit_.options_.owner &&
         sabotage_.standing_still[unit_.options_.owner.value()];
}

void SimUnit::remember_mark(std::uint64_t offset, Bytes data) {
  if (!sabotage_.without(Safeguard::stale_mark_honoured) || !is_mailbox(offset)) return;
  auto mailbox = ha::decode_mailbox(data);
  if (mailbox && mailbox->durability == Durability::mirrored) last_mirrored_ = *mailbox;
}

}  // namespace duet::simulator
