#include "simulation/fake_disk.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace duet::simulation {
namespace {

constexpr std::uint64_t sector = 512;

std::vector<std::byte> join(const std::vector<Slice>& data) {
  std::vector<std::byte> joined;
  for (const Slice& slice : data) {
    joined.insert(joined.end(), slice.bytes.begin(), slice.bytes.end());
  }
  return joined;
}

bool all_registrants(ports::ReservationType type) {
  return type == ports::ReservationType::write_exclusive_all_registrants ||
         type == ports::ReservationType::exclusive_access_all_registrants;
}
bool registrants_may(ports::ReservationType type) {
  return all_registrants(type) ||
         type == ports::ReservationType::write_exclusive_registrants_only ||
         type == ports::ReservationType::exclusive_access_registrants_only;
}
bool others_may_read(ports::ReservationType type) {
  return type == ports::ReservationType::write_exclusive ||
         type == ports::ReservationType::write_exclusive_registrants_only ||
         type == ports::ReservationType::write_exclusive_all_registrants;
}

}  // namespace

void PowerSupply::count() {
  ++operations_;
  if (countdown_ == 0) return;
  --countdown_;
  if (countdown_ == 0) cut();
}
void PowerSupply::cut() {
  on_ = false;
  countdown_ = 0;
  for (FakeMedium* medium : media_) medium->power_cut();
}
void PowerSupply::restore() {
  on_ = true;
  countdown_ = 0;
  for (FakeMedium* medium : media_) medium->power_restore();
}

FakeMedium::FakeMedium(ports::Scheduler& scheduler, Options options, PowerSupply* power)
    : scheduler_(scheduler),
      options_(std::move(options)),
      power_(power),
      random_(options_.seed),
      bytes_(options_.size) {
  ASSERT(options_.size % options_.block_size == 0 && options_.block_size % sector == 0);
  if (power_ != nullptr) power_->media_.push_back(this);
}

FakeMedium::~FakeMedium() {
  ASSERT(paths_.empty());
  if (power_ != nullptr) std::erase(power_->media_, this);
}

std::unique_ptr<FakeDisk> FakeMedium::connect() {
  return std::unique_ptr<FakeDisk>(new FakeDisk(*this, ++last_nexus_));
}

void FakeMedium::power_cut() {
  if (!powered_) return;
  powered_ = false;
  for (const auto& [number, sector_bytes] : cache_) {
    if (random_.chance(1, 2))
      std::ranges::copy(sector_bytes,
                        bytes_.begin() + static_cast<std::ptrdiff_t>(number * sector));
  }
  cache_.clear();
  // Each write in flight may have landed in part: none, some or all of its sectors.
  for (const auto& [id, operation] : in_flight_) {
    std::uint64_t odds = random_.below(5);
    for (std::uint64_t at = 0; at < operation.data.size(); at += sector) {
      if (random_.chance(odds, 4)) {
        store(operation.offset + at, Bytes(operation.data).subspan(at, sector), true);
      }
    }
  }
  for (FakeDisk* path : paths_) {
    abort(path, ErrorCode::disconnected);
    path->tell_connection(false);
  }
}

void FakeMedium::power_restore() {
  if (powered_) return;
  powered_ = true;
  for (FakeDisk* path : paths_) {
    path->tell_connection(path->connected_);
    path->tell(ports::Attention::power_on_or_reset);
  }
}

std::vector<std::byte> FakeMedium::peek(std::uint64_t offset, std::uint64_t size) const {
  std::vector<std::byte> seen(bytes_.begin() + static_cast<std::ptrdiff_t>(offset),
                              bytes_.begin() + static_cast<std::ptrdiff_t>(offset + size));
  for (auto it = cache_.lower_bound(offset / sector);
       it != cache_.end() && it->first * sector < offset + size; ++it) {
    for (std::uint64_t i = 0; i < sector; ++i) {
      std::uint64_t at = it->first * sector + i;
      if (at >= offset && at < offset + size) seen[at - offset] = it->second[i];
    }
  }
  return seen;
}

void FakeMedium::poke(std::uint64_t offset, Bytes bytes) {
  ASSERT(offset <= bytes_.size() && bytes.size() <= bytes_.size() - offset);
  flush();
  std::ranges::copy(bytes, bytes_.begin() + static_cast<std::ptrdiff_t>(offset));
}

void FakeMedium::start(FakeDisk* path, DiskOperation operation, std::uint64_t offset,
                       std::uint64_t size, std::vector<std::byte> data,
                       std::function<void(Status)> finish) {
  std::uint64_t id = ++last_operation_;
  Duration time(random_.below(static_cast<std::uint64_t>(options_.latency_max.count()) + 1));
  if (latency) time = latency(operation, offset, size).value_or(time);
  auto timer = scheduler_.at(scheduler_.now() + time, [this, id] {
    auto node = in_flight_.extract(id);
    node.mapped().finish({});
  });
  in_flight_.emplace(id, InFlight{path, offset, std::move(data), std::move(finish), timer});
  std::size_t writes = 0;
  for (const auto& [number, other] : in_flight_) writes += other.data.empty() ? 0 : 1;
  writes_in_flight_max_ = std::max(writes_in_flight_max_, writes);
}

void FakeMedium::abort(FakeDisk* path, ErrorCode code) {
  for (auto it = in_flight_.begin(); it != in_flight_.end();) {
    if (it->second.path != path) {
      ++it;
      continue;
    }
    scheduler_.cancel(it->second.timer);
    scheduler_.post([finish = std::move(it->second.finish), code, name = options_.name] {
      finish(fail(code, name + ": aborted"));
    });
    it = in_flight_.erase(it);
  }
}

void FakeMedium::store(std::uint64_t offset, Bytes data, bool durable) {
  for (std::uint64_t at = 0; at < data.size(); at += sector) {
    Bytes bytes = data.subspan(at, sector);
    std::uint64_t number = (offset + at) / sector;
    if (durable || !options_.volatile_cache) {
      cache_.erase(number);
      std::ranges::copy(bytes, bytes_.begin() + static_cast<std::ptrdiff_t>(number * sector));
    } else {
      cache_[number].assign(bytes.begin(), bytes.end());
    }
  }
}

void FakeMedium::flush() {
  for (const auto& [number, bytes] : cache_) {
    std::ranges::copy(bytes, bytes_.begin() + static_cast<std::ptrdiff_t>(number * sector));
  }
  cache_.clear();
}

bool FakeMedium::may_read(const FakeDisk* path) const {
  return !holder_ || others_may_read(type_) || may_write(path);
}
bool FakeMedium::may_write(const FakeDisk* path) const {
  if (!holder_) return true;
  return *holder_ == path->nexus_ || (registrants_may(type_) && registered_.contains(path->nexus_));
}

FakeDisk::FakeDisk(FakeMedium& medium, std::uint64_t nexus) : medium_(medium), nexus_(nexus) {
  geometry_ = {medium_.options_.size, medium_.options_.block_size, medium_.options_.volatile_cache,
               medium_.options_.name};
  medium_.paths_.insert(this);
}
FakeDisk::~FakeDisk() {
  medium_.abort(this, ErrorCode::cancelled);
  medium_.paths_.erase(this);
}

const std::string& FakeDisk::name() const {
  return medium_.options_.name;
}
void FakeDisk::on_connection(std::move_only_function<void(bool)> callback) {
  on_connection_ = std::move(callback);
}
void FakeDisk::on_attention(std::move_only_function<void(ports::Attention)> callback) {
  on_attention_ = std::move(callback);
}
void FakeDisk::tell_connection(bool connected) {
  medium_.scheduler_.post([this, connected, alive = std::weak_ptr(alive_)] {
    if (!alive.expired() && on_connection_) on_connection_(connected);
  });
}
void FakeDisk::tell(ports::Attention attention) {
  medium_.scheduler_.post([this, attention, alive = std::weak_ptr(alive_)] {
    if (!alive.expired() && on_attention_) on_attention_(attention);
  });
}

void FakeDisk::disconnect() {
  if (!connected_) return;
  connected_ = false;
  // What was in flight on the lost path may still have happened.
  for (const auto& [id, operation] : medium_.in_flight_) {
    if (operation.path == this && !operation.data.empty() && medium_.random_.chance(1, 2)) {
      medium_.store(operation.offset, operation.data, false);
    }
  }
  medium_.abort(this, ErrorCode::disconnected);
  tell_connection(false);
}
void FakeDisk::reconnect() {
  if (connected_) return;
  connected_ = true;
  if (medium_.powered_) tell_connection(true);
}

std::optional<Error> FakeDisk::refuse(DiskOperation operation, std::uint64_t offset,
                                      std::uint64_t size) {
  if (!connected()) return Error{ErrorCode::disconnected, name() + ": no path"};
  std::size_t under_way = 0;
  for (const auto& [id, other] : medium_.in_flight_) under_way += other.path == this ? 1 : 0;
  if (under_way >= medium_.options_.queue_depth)
    return Error{ErrorCode::busy, name() + ": queue full"};
  const std::uint64_t mask = geometry_.block_size - 1;
  if ((offset & mask) != 0 || (size & mask) != 0 || offset > geometry_.size ||
      size > geometry_.size - offset) {
    return Error{ErrorCode::invalid, name() + ": not aligned or beyond the end"};
  }
  bool allowed =
      operation == DiskOperation::read ? medium_.may_read(this) : medium_.may_write(this);
  if (!allowed) return Error{ErrorCode::reservation_conflict, name() + ": reservation conflict"};
  if (medium_.fault) {
    if (auto code = medium_.fault(operation, offset, size))
      return Error{*code, name() + ": injected"};
  }
  return {};
}

void FakeDisk::read(std::uint64_t offset, MutableBytes into, ports::Done<void> done) {
  auto shared = std::make_shared<ports::Done<void>>(std::move(done));
  if (auto error = refuse(DiskOperation::read, offset, into.size())) {
    medium_.scheduler_.post([shared, e = *error] { (*shared)(std::unexpected(e)); });
    return;
  }
  // A disk may take the data at any time until it answers: by chance, at the beginning or the end.
  auto early = std::make_shared<std::vector<std::byte>>();
  if (medium_.random_.chance(1, 2)) *early = medium_.peek(offset, into.size());
  medium_.start(this, DiskOperation::read, offset, into.size(), {},
                [this, offset, into, early, shared](Status status) {
                  if (status) {
                    if (early->empty()) *early = medium_.peek(offset, into.size());
                    std::ranges::copy(*early, into.begin());
                  }
                  (*shared)(std::move(status));
                });
}

void FakeDisk::write(std::uint64_t offset, std::vector<Slice> data, bool durable,
                     ports::Done<void> done) {
  auto shared = std::make_shared<ports::Done<void>>(std::move(done));
  std::vector<std::byte> bytes = join(data);
  if (auto error = refuse(DiskOperation::write, offset, bytes.size())) {
    medium_.scheduler_.post([shared, e = *error] { (*shared)(std::unexpected(e)); });
    return;
  }
  medium_.bytes_written_ += bytes.size();
  auto copy = std::make_shared<std::vector<std::byte>>(bytes);
  medium_.start(this, DiskOperation::write, offset, copy->size(), std::move(bytes),
                [this, offset, durable, copy, shared](Status status) {
                  if (status) medium_.store(offset, *copy, durable);
                  (*shared)(std::move(status));
                });
  if (medium_.power_ != nullptr) medium_.power_->count();
}

void FakeDisk::flush(ports::Done<void> done) {
  auto shared = std::make_shared<ports::Done<void>>(std::move(done));
  if (auto error = refuse(DiskOperation::flush, 0, 0)) {
    medium_.scheduler_.post([shared, e = *error] { (*shared)(std::unexpected(e)); });
    return;
  }
  medium_.start(this, DiskOperation::flush, 0, 0, {}, [this, shared](Status status) {
    if (status) medium_.flush();
    (*shared)(std::move(status));
  });
  if (medium_.power_ != nullptr) medium_.power_->count();
}

Status FakeDisk::check_registered(ReservationKey key) const {
  auto found = medium_.registered_.find(nexus_);
  if (found != medium_.registered_.end() && found->second == key) return {};
  return fail(ErrorCode::reservation_conflict, name() + ": not registered with this key");
}

void FakeDisk::reservation_out(std::move_only_function<Status()> change, ports::Done<void> done) {
  Status status;
  if (!connected()) {
    status = fail(ErrorCode::disconnected, name() + ": no path");
  } else {
    status = change();
  }
  medium_.scheduler_.post(
      [done = std::move(done), status = std::move(status)]() mutable { done(std::move(status)); });
}

void FakeDisk::register_key(ReservationKey key, ports::Done<void> done) {
  reservation_out(
      [this, key]() -> Status {
        ++medium_.generation_;
        if (key != ReservationKey(0)) {
          medium_.registered_[nexus_] = key;
          return {};
        }
        medium_.registered_.erase(nexus_);
        if (medium_.holder_ == nexus_) medium_.holder_.reset();
        return {};
      },
      std::move(done));
}

void FakeDisk::reserve(ReservationKey key, ports::ReservationType type, ports::Done<void> done) {
  reservation_out(
      [this, key, type]() -> Status {
        if (auto status = check_registered(key); !status) return status;
        bool same = medium_.holder_ == nexus_ && medium_.type_ == type;
        if (medium_.holder_ && !same) {
          return fail(ErrorCode::reservation_conflict, name() + ": already reserved");
        }
        medium_.holder_ = nexus_;
        medium_.type_ = type;
        return {};
      },
      std::move(done));
}

void FakeDisk::release(ReservationKey key, ports::ReservationType type, ports::Done<void> done) {
  reservation_out(
      [this, key, type]() -> Status {
        if (auto status = check_registered(key); !status) return status;
        if (medium_.holder_ != nexus_) return {};  // SPC-4 5.12.11.2.2: good, nothing released
        if (medium_.type_ != type) return fail(ErrorCode::invalid, name() + ": other type");
        medium_.holder_.reset();
        return {};
      },
      std::move(done));
}

void FakeDisk::preempt(ReservationKey key, ReservationKey victim, ports::ReservationType type,
                       bool abort, ports::Done<void> done) {
  reservation_out(
      [this, key, victim, type, abort]() -> Status {
        if (auto status = check_registered(key); !status) return status;
        bool holder_goes = false;
        if (medium_.holder_) {
          auto holder = medium_.registered_.find(*medium_.holder_);
          holder_goes = holder != medium_.registered_.end() && holder->second == victim;
        }
        bool known = std::ranges::any_of(medium_.registered_,
                                         [&](const auto& entry) { return entry.second == victim; });
        if (!known) return fail(ErrorCode::reservation_conflict, name() + ": no such key");
        ++medium_.generation_;
        for (FakeDisk* path : medium_.paths_) {
          auto found = medium_.registered_.find(path->nexus_);
          if (path == this || found == medium_.registered_.end() || found->second != victim)
            continue;
          if (abort) medium_.abort(path, ErrorCode::cancelled);
          path->tell(ports::Attention::registrations_preempted);
        }
        std::erase_if(medium_.registered_, [&](const auto& entry) {
          return entry.first != nexus_ && entry.second == victim;
        });
        if (holder_goes) {
          medium_.holder_ = nexus_;
          medium_.type_ = type;
        }
        return {};
      },
      std::move(done));
}

void FakeDisk::read_keys(ports::Done<ports::RegisteredKeys> done) {
  Result<ports::RegisteredKeys> result;
  if (connected()) {
    result->generation = medium_.generation_;
    for (const auto& [nexus, key] : medium_.registered_) result->keys.push_back(key);
  } else {
    result = fail(ErrorCode::disconnected, name() + ": no path");
  }
  medium_.scheduler_.post(
      [done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
}

void FakeDisk::read_reservation(ports::Done<ports::ReservationState> done) {
  Result<ports::ReservationState> result;
  if (connected()) {
    result->generation = medium_.generation_;
    result->reserved = medium_.holder_.has_value();
    if (medium_.holder_) {
      result->holder = medium_.registered_[*medium_.holder_];
      result->type = medium_.type_;
    }
  } else {
    result = fail(ErrorCode::disconnected, name() + ": no path");
  }
  medium_.scheduler_.post(
      [done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
}

}  // namespace duet::simulation
