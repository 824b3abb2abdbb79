// Consistency points of an ExtentPool (docs/protocols/consistency_point.md).
#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/coverage.h"
#include "base/crc32c.h"
#include "filesystem/extent_pool.h"

namespace duet::filesystem {

bool ExtentPool::clean() const {
  return dirty_.empty() && !table_.changed() && applied_ == superblock_.position;
}

std::uint64_t ExtentPool::dirty_bytes() const {
  return dirty_.bytes() + (point_ ? point_->dirty().bytes() : 0);
}

bool ExtentPool::needs_consistency_point() const {
  return dirty_.bytes() >= dirty_limit() / 2;
}

void ExtentPool::start_consistency_point() {
  if (state_ != StorageState::active) return;
  if (point_) {
    again_ = true;
    return;
  }
  if (!clean()) return begin_consistency_point();
  scheduler_.post([this, session = std::weak_ptr(session_)] {
    if (!session.expired() && on_consistency_point_) on_consistency_point_(position());
  });
}

// The table as it will be when this consistency point is done; empty if it stays as it is.
std::vector<std::byte> ExtentPool::encode_table(Superblock& next) {
  pending_ = {};
  pending_.freed = table_.take_freed();
  bool changed = table_.take_changed();
  for (const auto& [number, lun] : table_.all()) {
    auto found = dirty_.luns().find(lun->instance);
    if (found == dirty_.luns().end()) continue;
    std::map<std::uint32_t, std::uint64_t> masks;
    for (const auto& [extent, changes] : found->second) {
      std::uint64_t before = lun->extents[extent].initialised;
      std::uint64_t after = initialised_after(next.geometry, before, changes);
      if (after != before) masks.emplace(extent, after);
    }
    if (!masks.empty()) pending_.masks.emplace_back(lun, std::move(masks));
  }
  if (!changed && pending_.masks.empty()) return {};
  // Reads go by what is on the disks, so the new bits are there only while the table is encoded.
  auto swap_masks = [this] {
    for (auto& [lun, masks] : pending_.masks) {
      for (auto& [extent, mask] : masks) std::swap(lun->extents[extent].initialised, mask);
    }
  };
  next.table_generation = next.generation;
  next.table_slot = 1 - superblock_.table_slot;
  swap_masks();
  auto bytes = table_.encode(next);
  swap_masks();
  ASSERT(bytes.size() <= next.geometry.table_slot_size);
  next.table_size = bytes.size();
  next.table_crc = crc32c(bytes);
  return bytes;
}

void ExtentPool::begin_consistency_point() {
  again_ = false;
  ConsistencyPoint::Plan plan;
  plan.disks = options_.disks;
  plan.superblock = superblock_;
  ++plan.superblock.generation;
  plan.superblock.epoch = epoch_;
  plan.superblock.position = applied_;
  plan.superblock.luns_created = table_.luns_created();
  plan.table = encode_table(plan.superblock);
  for (const auto& [number, lun] : table_.all()) {
    if (dirty_.luns().contains(lun->instance)) plan.luns.emplace(lun->instance, lun);
  }
  plan.dirty = std::exchange(dirty_, DirtyCache(superblock_.geometry.extent_size));
  point_ = std::make_shared<ConsistencyPoint>(std::move(plan),
                                              [this](const DiskWrite& write) { keep(write); });
  run_consistency_point();
}

void ExtentPool::run_consistency_point() {
  point_->run([this](Status status) { on_consistency_point_done(std::move(status)); });
}

void ExtentPool::on_consistency_point_done(Status status) {
  if (!status && status.error().code == ErrorCode::reservation_conflict) {
    MARK(consistency_point_fenced);
    // Not from inside the point that fence() drops.
    scheduler_.post([this, session = std::weak_ptr(session_), why = status.error().message] {
      if (!session.expired()) fence(why);
    });
    return;
  }
  if (!status) {
    MARK(consistency_point_repeated);
    retry_ = scheduler_.at(scheduler_.now() + options_.retry_delay, [this] {
      retry_ = {};
      run_consistency_point();
    });
    set_health("consistency point " + std::to_string(point_->superblock().generation) +
               " failed: " + status.error().message + "; trying again");
    return;
  }
  auto point = std::move(point_);  // its end comes after ours
  scheduler_.post([point] {});
  superblock_ = point->superblock();
  ++flushes_;
  for (auto& [lun, masks] : pending_.masks) {
    for (auto [extent, mask] : masks) lun->extents[extent].initialised = mask;
  }
  table_.release(pending_.freed);
  pending_ = {};
  if (state_ == StorageState::active && again_ && !clean()) begin_consistency_point();
  again_ = false;
  std::weak_ptr session = session_;
  if (state_ == StorageState::active) set_health(lasting_health());
  if (!session.expired() && on_consistency_point_) on_consistency_point_(position());
  if (!session.expired() && !point_) finish_deactivation();
}

}  // namespace duet::filesystem
