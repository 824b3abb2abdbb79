// Coredumps on the disks of an identity that is served, and its spares, which may bear one.
#include <algorithm>
#include <utility>

#include "base/coverage.h"
#include "node/identity_service.h"

namespace duet::node {

void IdentityService::start_cores() {
  CoreFiles::Ports ports{
      ports_.scheduler,
      *files_,
      [this] {
        return logged_->crowded() || storage_->needs_consistency_point() ||
               storage_->dirty_bytes() > storage_->dirty_limit() / 2;
      },
      [this](const DiskId& id) { return pool_writes_to(id); },
      [this](const CoreFiles::Report& r) {
        ports_.tell(DumpCollectionFact{identity_, r.index, r.bytes_done, r.bytes_total, r.over});
      },
      [this](std::uint8_t severity, std::string phase, std::string text) {
        log(severity, std::move(phase), std::move(text));
      },
  };
  CoreCollector::Rules rules;
  rules.cluster = config_.cluster;
  rules.node = identity_;
  rules.keep = static_cast<std::size_t>(config_.core_keep);
  rules.space_percent = static_cast<std::uint64_t>(config_.core_space_percent);
  cores_ = std::make_unique<CoreFiles>(std::move(ports), rules);
}

// Not to its spares.
bool IdentityService::pool_writes_to(const DiskId& id) const {
  const auto* array = storage_->array();
  if (array == nullptr) return true;
  const auto& layout = array->layout();
  return std::ranges::find(layout.members, id, &raid::Member::disk) != layout.members.end() ||
         std::ranges::find(layout.joining, id, &raid::Joining::disk) != layout.joining.end();
}

// ---- spares: RAID's, a dump's (docs/protocols/coredump.md, C6, C9) ----

void IdentityService::start_spares() {
  if (!home()) return;
  spares_ = std::make_unique<FreeSpares>(
      FreeSpares::Ports{
          [this](const FreeSparesFact& fact) { ports_.tell(fact); },
          [this] { return free_spares(); },
          [this](ports::Done<void> done) { storage_->when_on_disk(std::move(done)); }},
      spares_told_);
}

void IdentityService::look_at_spares() {
  if (spares_ && serving()) spares_->look();
}

void IdentityService::free_spares_heard(std::uint64_t number) {
  if (spares_) spares_->heard(number);
}

std::optional<std::uint8_t> IdentityService::index_of(const ports::Disk* disk) const {
  for (std::size_t i = 0; i < ports_.disks.size(); ++i) {
    if (ports_.disks[i] == disk) return static_cast<std::uint8_t>(i);
  }
  return {};
}

std::uint64_t IdentityService::free_spares() const {
  std::uint64_t free = 0;
  const auto* array = serving() ? storage_->array() : nullptr;
  if (array == nullptr) return free;
  for (const auto& spare : array->free_spares()) {
    if (auto index = index_of(spare.port)) free |= std::uint64_t{1} << *index;
  }
  return free;
}

// Of the partner's disks those that it may dump to are absent, and it is fenced from all others:
// only our own identity has to tell. What is on the disk counts no more before the first block is
// written over it.
void IdentityService::claim_disk(const raid::Array::Disk& disk, ports::Done<void> done) {
  const auto index = index_of(disk.port);
  auto answer = std::make_shared<ports::Done<void>>(std::move(done));
  if (!serving() || !cores_ || !index) {
    MARK(disk_claimed_while_not_serving);
    return ports_.scheduler.post(
        [answer] { (*answer)(fail(ErrorCode::refused, "the identity is not served yet")); });
  }
  auto drop_dump = in_this_attempt([this, index = *index, answer] {
    if (!cores_) return;
    cores_->disk_needed(index, *ports_.disks[index],
                        [answer](Result<void> r) { (*answer)(std::move(r)); });
  });
  if (!spares_) return drop_dump();
  spares_->take(*index, std::move(drop_dump));
}

// It may be left to the partner's dump.
void IdentityService::spare_missed(const DiskId& id) {
  if (!order_.absent.empty()) ports_.tell(DiskNeededFact{identity_, id});
}

// One that is not fenced, or of an identity that is not served, keeps its dump.
void IdentityService::collect_dump(std::uint8_t index) {
  const bool absent = std::ranges::find(order_.absent, index) != order_.absent.end();
  if (!cores_ || absent || index >= ports_.disks.size()) {
    return ports_.tell(DumpCollectionFact{.identity = identity_, .index = index, .over = true});
  }
  cores_->collect(index, *ports_.disks[index]);
}

void IdentityService::cancel_collect(std::uint8_t index) {
  if (cores_) cores_->cancel(index);
}

void IdentityService::core_order(const admin::CoreOrder& order, CoreFiles::Done done) {
  if (serving() && cores_) return cores_->carry_out(order, std::move(done));
  admin::CoreReply refusal;
  refusal.why = not_served();
  done(std::move(refusal));
}

}  // namespace duet::node
