#include "pool/pool.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/coverage.h"
#include "pool/flush.h"

namespace duet::pool {

Pool::Pool(ports::Scheduler& scheduler, Options options)
    : scheduler_(scheduler),
      options_(std::move(options)),
      metadata_(options_.metadata_cache / 4 * 3),
      data_(options_.read_cache),
      era_(std::make_shared<Era>()),
      space_token_(std::make_shared<bool>(true)) {}

Pool::~Pool() {
  close();
}

template <class T>
void Pool::fail_later(ports::Done<T>& done, Error error) {
  if (!done) return;
  scheduler_.post([done = std::exchange(done, nullptr), error = std::move(error)]() mutable {
    done(std::unexpected(std::move(error)));
  });
}
template void Pool::fail_later(ports::Done<void>&, Error);
template void Pool::fail_later(ports::Done<std::vector<Slice>>&, Error);

// ---- consistency points ----

bool Pool::clean() const {
  return changed_.empty() && changed_volumes_.empty() && orders_.empty() &&
         applied_ == superblock_.position && array_->layout() == superblock_.layout;
}

bool Pool::background_work() const {
  return !zombies_.empty() ||
         std::ranges::any_of(volumes_, [](const auto& v) { return v.second.deleting; });
}

bool Pool::space_settled() const {
  return !flush_ && unsettled_ == 0 && zombies_.empty();
}

void Pool::start_consistency_point() {
  if (state_ != StorageState::active) return;
  if (flush_) {
    again_ = true;
    return;
  }
  if (!clean() || background_work()) return begin_flush();
  scheduler_.post([this, session = std::weak_ptr(session_)] {
    if (!session.expired() && state_ == StorageState::active && on_consistency_point_) {
      on_consistency_point_(superblock_.position);
    }
  });
}

// The log's own records change nothing: a pool at rest makes no points.
void Pool::note_change() {
  const bool much = needs_consistency_point() && !hurried_;
  if (!much && (age_ != ports::TimerId() || options_.point_age == Duration(0))) return;
  hurried_ = hurried_ || much;
  forget_age();
  age_ = scheduler_.at(scheduler_.now() + (much ? Duration(0) : options_.point_age), [this, much] {
    age_ = {};
    if (!much) MARK(consistency_point_by_age);
    start_consistency_point();
  });
}

void Pool::forget_age() {
  scheduler_.cancel(std::exchange(age_, {}));
}

void Pool::begin_flush() {
  ASSERT(!flush_);
  again_ = false;
  flush_ = std::make_shared<Flush>(*this);
  flush_->start();
}

void Pool::flush_done() {
  flush_.reset();
  settle_later(space_.take_released());
  forget_maps();
  set_health(lasting_health());
  std::weak_ptr session = session_;
  if (on_consistency_point_) on_consistency_point_(superblock_.position);
  if (session.expired() || flush_ || state_ != StorageState::active) return;
  if (deactivated_) return finish_deactivation();
  if (again_) return start_consistency_point();
  if (background_work()) begin_flush();
}

// Blocks become free when no read is left that may be looking for them.
void Pool::settle_later(std::vector<raid::BlockAddress> released) {
  auto era = std::make_shared<Era>();
  unsettled_ += released.size();
  era_->on_end = [this, scheduler = &scheduler_, token = std::weak_ptr(space_token_),
                  released = std::move(released)]() mutable {
    if (token.expired()) return;
    scheduler->post([this, token, released = std::move(released)] {
      if (token.expired()) return;
      space_.settle(released);
      unsettled_ -= released.size();
      forget_maps();
    });
  };
  era_->next = era;
  era_ = std::move(era);
}

void Pool::forget_maps() {
  if (!flush_) space_.evict(options_.metadata_cache / 4 / SpaceMap::bytes_in_memory);
}

void Pool::disks_were_reset() {
  if (flush_) flush_->write_again();
}

// ---- members that come back ----

void Pool::disk_returned(ports::Disk& disk, DiskId id, disk::Area data) {
  if (array_ == nullptr) return;
  std::erase_if(options_.disks, [&](const Disk& d) { return d.id == id; });
  options_.disks.push_back({&disk, id, data});
  array_->disk_returned({id, &disk, data.offset});
  watch_members();
}

// Looks now and then as long as a member has failed.
void Pool::watch_members() {
  const bool failed = std::ranges::any_of(array_->layout().members, [](const raid::Member& m) {
    return m.state == raid::MemberState::failed;
  });
  if (!failed || rejoin_ != ports::TimerId() || state_ != StorageState::active) return;
  rejoin_ = scheduler_.at(scheduler_.now() + rejoin_wait / 5, [this] {
    rejoin_ = {};
    if (state_ != StorageState::active) return;
    rejoin_members();
    watch_members();
  });
}

void Pool::when_on_disk(ports::Done<void> done) {
  order([](Flush&) -> Status { return {}; }, std::move(done));
}

// A disk that was away misses what was written meanwhile: it is written anew as a whole.
void Pool::rejoin_members() {
  const Instant now = scheduler_.now();
  for (const raid::MemberReport& report : array_->report()) {
    if (report.member.state != raid::MemberState::failed || !report.present ||
        report.member.kept_out) {
      rejoins_.erase(report.number);
      continue;
    }
    auto [it, first] = rejoins_.try_emplace(report.number, Rejoin{now + rejoin_wait, rejoin_wait});
    Rejoin& rejoin = it->second;
    if (first) continue;
    if (now < rejoin.due) continue;
    if (!array_->replace_member(report.number, report.member.disk)) continue;
    rejoin.wait = std::min(rejoin.wait * 2, rejoin_wait_max);
    rejoin.due = now + rejoin.wait;
  }
}

// ---- trouble ----

void Pool::fence(const std::string& why) {
  if (state_ != StorageState::active && state_ != StorageState::offline) return;
  state_ = StorageState::fenced;
  if (flush_) flush_->stop();
  flush_.reset();
  if (retry_ != ports::TimerId()) scheduler_.cancel(std::exchange(retry_, {}));
  fail_later(deactivated_, {ErrorCode::reservation_conflict, why});
  std::weak_ptr session = session_;
  set_health("fenced: " + why);
  if (!session.expired() && on_fenced_) on_fenced_(why);
}

void Pool::give_up_on(const std::string& why) {
  if (state_ != StorageState::active) return;
  state_ = StorageState::offline;
  if (flush_) flush_->stop();
  flush_.reset();
  fail_later(deactivated_, {ErrorCode::refused, why});
  set_health("offline: " + why);
}

void Pool::set_health(std::string health) {
  if (health == health_) return;
  health_ = std::move(health);
  if (on_health_) on_health_(health_);
}

std::string Pool::lasting_health() const {
  for (const auto& [number, lun] : luns_) {
    if (!lun.info.offline.empty()) {
      return "LUN " + lun.info.name + " is offline: " + lun.info.offline;
    }
  }
  return raid_health();
}

std::string Pool::raid_health() const {
  std::string text;
  if (!array_) return text;
  const auto& members = array_->layout().members;
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (members[i].state == raid::MemberState::in_sync) continue;
    text += (text.empty() ? "member " : ", member ") + std::to_string(i);
    text += members[i].state == raid::MemberState::failed ? " has failed" : " is being rebuilt";
  }
  return text;
}

void Pool::on_consistency_point(std::function<void(const LogPosition&)> callback) {
  on_consistency_point_ = std::move(callback);
}
void Pool::on_fenced(std::function<void(const std::string&)> callback) {
  on_fenced_ = std::move(callback);
}
void Pool::on_health(std::function<void(const std::string&)> callback) {
  on_health_ = std::move(callback);
}

}  // namespace duet::pool
