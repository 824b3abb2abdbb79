#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "disk/areas.h"
#include "simulator/sim_disk.h"

namespace duet::simulator {

using scsi::StoreDone;

namespace {

scsi::UnitConfig unit_config(const SimUnit::Options& options) {
  scsi::UnitConfig config;
  config.serial = options.name;
  config.naa = options.owner.value() * 16u + options.index;
  config.target_name = "shelf";
  config.target_ports = 2;
  config.block_size = options.block_size;
  config.blocks = options.size / options.block_size;
  config.write_cache = options.write_cache;
  return config;
}

}  // namespace

void SimUnit::Free::operator()(std::byte* p) const {
  std::free(p);
}

SimUnit::SimUnit(Process& shelf, const Sabotage& sabotage, Options options)
    : shelf_(shelf),
      sabotage_(sabotage),
      options_(std::move(options)),
      random_(options_.seed),
      bytes_(static_cast<std::byte*>(std::calloc(options_.size, 1))),
      unit_(std::make_unique<scsi::LogicalUnit>(unit_config(options_), scsi::Reservations{})) {
  ASSERT(bytes_);
}

SimUnit::~SimUnit() = default;

// ---- sessions ----

SimUnit::Session SimUnit::login(const scsi::Nexus& nexus, SimDisk& disk) {
  for (auto& [session, open] : sessions_) {
    if (open.nexus == nexus) {
      end_session(session);
      break;
    }
  }
  sessions_[++last_session_] = {nexus, &disk};
  unit_->on_nexus_new(nexus);
  return last_session_;
}

void SimUnit::logout(Session session) {
  if (sessions_.contains(session)) end_session(session);
}

void SimUnit::end_session(Session session) {
  auto nexus = sessions_.at(session).nexus;
  sessions_.erase(session);
  std::erase_if(held_, [&](const Held& held) { return held.session == session; });
  scsi::Actions actions;
  unit_->on_nexus_lost(nexus, actions);
  perform(std::move(actions));
}

void SimUnit::forget_disk(const SimDisk& disk) {
  for (auto& [session, open] : sessions_) {
    if (open.disk == &disk) open.disk = nullptr;
  }
}

void SimUnit::drop_sessions(bool reset) {
  auto open = std::exchange(sessions_, {});
  for (auto& [session, one] : open) {
    if (reset && one.disk != nullptr) {
      one.disk->process_.post([disk = one.disk, session] {
        if (disk->session_ == session) disk->lose("connection reset by the shelf", false);
      });
    }
  }
}

// ---- commands ----

void SimUnit::arrive(Session session, scsi::Command&& command) {
  auto it = sessions_.find(session);
  if (it == sessions_.end() || !powered_) return;
  auto until = paths_[command.nexus.relative_target_port].cut_until;
  if (shelf_.now() < until) {  // on its way when the path was cut: sent again when it is back
    shelf_.at(until, [this, session, command = std::move(command)]() mutable {
      arrive(session, std::move(command));
    });
    return;
  }
  const void* data = command.data_out.empty() ? nullptr : command.data_out[0].owner.get();
  auto run = [this, session, data, command = std::move(command)]() mutable {
    outstanding_.emplace(command.tag, Outstanding{session, command.nexus, data});
    execute(std::move(command));
  };
  if (hanging_) {
    held_.push_back({std::move(run), session});
  } else {
    run();
  }
}

void SimUnit::execute(scsi::Command&& command) {
  auto opcode = command.cdb[0];
  bool transfer = opcode == 0x88 || opcode == 0x8a;
  if (transfer && shelf_.now() < faults.errors_until &&
      random_.chance(faults.errors_per_100, 100)) {
    answer(command.tag, scsi::check_condition(opcode == 0x88 ? scsi::sense::unrecovered_read_error
                                                             : scsi::sense::write_error));
    return;
  }
  if (sabotage_.without(Safeguard::reservation_conflict) && opcode == 0x8a &&
      !unit_->reservations().allows(command.nexus, scsi::AccessClass::writes)) {
    auto block = load_be<std::uint64_t>(reinterpret_cast<const std::byte*>(&command.cdb[2]));
    land({{}, block * options_.block_size, std::move(command.data_out), true}, false, false);
    answer(command.tag, {});
    return;
  }
  scsi::Actions actions;
  unit_->on_command(std::move(command), actions);
  perform(std::move(actions));
}

void SimUnit::perform(scsi::Actions&& actions) {
  for (auto& action : actions) {
    if (auto* respond = std::get_if<scsi::Respond>(&action)) {
      answer(respond->tag, std::move(respond->response));
    } else if (auto* aborted = std::get_if<scsi::CommandAborted>(&action)) {
      outstanding_.erase(aborted->tag);  // nothing is sent (TAS = 0)
    } else if (auto* read = std::get_if<scsi::StoreRead>(&action)) {
      auto tag = read->tag;
      start(std::move(action), tag);
    } else if (auto* write = std::get_if<scsi::StoreWrite>(&action)) {
      auto tag = write->tag;
      start(std::move(action), tag);
    } else if (auto* zero = std::get_if<scsi::StoreZero>(&action)) {
      auto tag = zero->tag;
      start(std::move(action), tag);
    } else if (auto* flushing = std::get_if<scsi::StoreFlush>(&action)) {
      auto tag = flushing->tag;
      start(std::move(action), tag);
    } else if (auto* keep = std::get_if<scsi::StoreReservations>(&action)) {
      auto tag = keep->tag;
      start(std::move(action), tag);
    } else if (auto* stop = std::get_if<scsi::StoreAbort>(&action)) {
      abort(stop->tag);
    }
  }
}

Duration SimUnit::latency() {
  auto low = faults.latency_min, high = faults.latency_max;
  if (shelf_.now() < faults.slow_until) high = std::max(high, faults.slow_max);
  return low + Duration(random_.below(static_cast<std::uint64_t>((high - low).count()) + 1));
}

void SimUnit::start(scsi::Action&& action, scsi::StoreTag tag) {
  Work work{std::move(action), {}, {}};
  // A disk may take the data at any time until it answers: by chance, at the beginning or the end.
  if (auto* read = std::get_if<scsi::StoreRead>(&work.action); read && random_.chance(1, 2)) {
    work.early = this->read(*read);
  }
  work.timer = shelf_.at(shelf_.now() + latency(), [this, tag] { finish(tag); });
  work_.emplace(tag, std::move(work));
}

void SimUnit::finish(scsi::StoreTag tag) {
  auto it = work_.find(tag);
  if (it == work_.end()) return;  // aborted
  if (hanging_) {
    held_.push_back({[this, tag] { finish(tag); }, 0});
    return;
  }
  auto work = std::move(it->second);
  work_.erase(it);
  StoreDone result{tag, StoreDone::Outcome::ok, {}};
  if (auto* read = std::get_if<scsi::StoreRead>(&work.action)) {
    result.data.push_back(work.early ? std::move(*work.early) : this->read(*read));
  } else if (auto* write = std::get_if<scsi::StoreWrite>(&work.action)) {
    land(*write, false, false);
  } else if (auto* zero = std::get_if<scsi::StoreZero>(&work.action)) {
    store(zero->offset, std::vector<std::byte>(zero->length), zero->durable);
  } else if (std::holds_alternative<scsi::StoreFlush>(work.action)) {
    flush();
  } else if (auto* keep = std::get_if<scsi::StoreReservations>(&work.action)) {
    kept_reservations_ = std::move(keep->state);
  }
  done(std::move(result));
}

void SimUnit::done(StoreDone&& result) {
  scsi::Actions actions;
  unit_->on_store_done(std::move(result), actions);
  perform(std::move(actions));
}

// What is aborted may have happened in whole, in part or not at all; nothing of it happens later.
void SimUnit::abort(scsi::StoreTag tag) {
  auto it = work_.find(tag);
  if (it == work_.end()) return;
  shelf_.cancel(it->second.timer);
  auto work = std::move(it->second);
  work_.erase(it);
  if (auto* write = std::get_if<scsi::StoreWrite>(&work.action)) land(*write, true, true);
  shelf_.post([this, tag, unit = unit_.get()] {
    if (unit == unit_.get()) done({tag, StoreDone::Outcome::cancelled, {}});
  });
}

void SimUnit::answer(scsi::CommandTag tag, scsi::Response response) {
  auto it = outstanding_.find(tag);
  if (it == outstanding_.end()) return;
  auto session = sessions_.find(it->second.session);
  outstanding_.erase(it);
  if (session == sessions_.end() || session->second.disk == nullptr) return;
  session->second.disk->deliver(session->first, tag.value(), std::move(response));
}

// ---- medium ----

const scsi::Nexus& SimUnit::writer(const scsi::StoreWrite& write) const {
  static const scsi::Nexus nobody;
  if (write.data.empty()) return nobody;
  for (const auto& [tag, command] : outstanding_) {
    if (command.data == write.data[0].owner.get()) return command.nexus;
  }
  return nobody;
}

void SimUnit::land(const scsi::StoreWrite& write, bool partly, bool aborting) {
  std::vector<std::byte> joined;
  if (write.data.size() != 1) {
    for (const auto& slice : write.data) {
      joined.insert(joined.end(), slice.bytes.begin(), slice.bytes.end());
    }
  }
  const Bytes data = write.data.size() == 1 ? write.data[0].bytes : Bytes(joined);
  auto odds = partly ? random_.below(5) : 4;
  if (odds == 4) {
    if (!aborting && spoil(write, data)) return;
    if (diverts(write, data)) return;
    store(write.offset, data, write.durable);
    remember_mark(write.offset, data);
    if (on_landed) on_landed(*this, {writer(write), write.offset, data, aborting});
    return;
  }
  // Torn: sectors of 512 bytes.
  constexpr std::size_t sector = 512;
  auto mixed = peek(write.offset, data.size());
  bool any = false;
  for (std::size_t at = 0; at < data.size(); at += sector) {
    if (!random_.chance(odds, 4)) continue;
    any = true;
    auto n = std::min(sector, data.size() - at);
    std::copy_n(data.begin() + static_cast<std::ptrdiff_t>(at), n,
                mixed.begin() + static_cast<std::ptrdiff_t>(at));
  }
  if (!any) return;
  store(write.offset, mixed, write.durable);
  if (on_landed) on_landed(*this, {writer(write), write.offset, mixed, aborting});
}

// Lost and misdirected writes, only where two copies on three disks are there to survive them.
bool SimUnit::spoil(const scsi::StoreWrite& write, Bytes data) {
  return spoil(disk::mailbox_area, faults.lost_writes, faults.misdirected_writes, write.offset,
               data) ||
         spoil(options_.pool_metadata, faults.lost_pool_writes, faults.misdirected_pool_writes,
               write.offset, data);
}

bool SimUnit::spoil(disk::Area area, unsigned& lost, unsigned& misdirected, std::uint64_t offset,
                    Bytes data) {
  if (offset < area.offset || offset + data.size() > area.end()) return false;
  if (lost > 0) {
    --lost;
    return true;
  }
  if (misdirected > 0) {
    --misdirected;
    // To one of the first two blocks, where copies and slots are, or anywhere.
    auto places = (area.size - data.size()) / disk::area_block_size + 1;
    auto place = random_.below(random_.chance(1, 2) ? std::min<std::uint64_t>(places, 2) : places);
    store(area.offset + place * disk::area_block_size, data, true);
    return true;
  }
  return false;
}

std::vector<std::byte> SimUnit::peek(std::uint64_t offset, std::uint64_t size) const {
  std::vector<std::byte> seen(size);
  peek(offset, seen);
  return seen;
}

void SimUnit::peek(std::uint64_t offset, MutableBytes into) const {
  ASSERT(offset <= options_.size && into.size() <= options_.size - offset);
  std::memcpy(into.data(), bytes_.get() + offset, into.size());
  if (cache_.empty()) return;
  const auto block = options_.block_size;
  for (auto it = cache_.lower_bound(offset / block);
       it != cache_.end() && it->first * block < offset + into.size(); ++it) {
    std::ranges::copy(it->second, into.data() + (it->first * block - offset));
  }
}

Slice SimUnit::read(const scsi::StoreRead& read) const {
  auto owner = std::make_shared_for_overwrite<std::byte[]>(read.length);
  const MutableBytes seen{owner.get(), read.length};
  peek(read.offset, seen);
  return {std::move(owner), seen};
}

void SimUnit::poke(std::uint64_t offset, Bytes bytes) {
  store(offset, bytes, true);
}

// In whole blocks.
void SimUnit::store(std::uint64_t offset, Bytes data, bool durable) {
  const auto block = options_.block_size;
  ASSERT(offset % block == 0 && data.size() % block == 0);
  ASSERT(offset <= options_.size && data.size() <= options_.size - offset);
  if (offset < disk::mailbox_copy(disk::mailbox_copies - 1).end()) ++mailbox_changes_;
  const auto& metadata = options_.pool_metadata;
  if (offset < metadata.end() && offset + data.size() > metadata.offset) ++pool_changes_;
  if (durable || !options_.write_cache) {
    cache_.erase(cache_.lower_bound(offset / block),
                 cache_.lower_bound((offset + data.size()) / block));
    std::memcpy(bytes_.get() + offset, data.data(), data.size());
    return;
  }
  for (std::size_t at = 0; at < data.size(); at += block) {
    const Bytes bytes = data.subspan(at, block);
    cache_[(offset + at) / block].assign(bytes.begin(), bytes.end());
  }
}

void SimUnit::flush() {
  for (const auto& [number, bytes] : cache_) {
    std::ranges::copy(bytes, bytes_.get() + number * options_.block_size);
  }
  cache_.clear();
}

// ---- faults ----

void SimUnit::hang(bool hanging) {
  hanging_ = hanging;
  if (hanging_) return;
  // Each may make others wait again, were it to hang again.
  auto events = std::exchange(held_, {});
  for (auto& held : events) held.event();
}

void SimUnit::power_off() {
  if (!std::exchange(powered_, false)) return;
  hanging_ = false;
  held_.clear();
  for (auto& [tag, work] : std::exchange(work_, {})) {
    shelf_.cancel(work.timer);
    if (auto* write = std::get_if<scsi::StoreWrite>(&work.action)) land(*write, true, true);
  }
  for (const auto& [number, bytes] : std::exchange(cache_, {})) {
    if (random_.chance(1, 2)) {
      std::ranges::copy(bytes, bytes_.get() + number * options_.block_size);
    }
  }
  ++mailbox_changes_;
  ++pool_changes_;
  outstanding_.clear();
  scsi::Actions actions;
  unit_->on_power_lost(actions);
  unit_ = std::make_unique<scsi::LogicalUnit>(unit_config(options_), scsi::Reservations{});
  drop_sessions(random_.chance(1, 2));
}

void SimUnit::power_on(bool forget) {
  if (std::exchange(powered_, true)) return;
  if (forget) forgot_ = shelf_.now();
  scsi::Reservations reservations;
  if (!kept_reservations_.empty()) {
    auto parsed = scsi::Reservations::parse(kept_reservations_);
    ASSERT(parsed.has_value());
    reservations = forget ? parsed->without_registrations() : *parsed;
  }
  unit_ = std::make_unique<scsi::LogicalUnit>(unit_config(options_), std::move(reservations));
}

void SimUnit::cut_path(NodeId node, Instant until, bool reset) {
  auto& path = paths_[node.value()];
  path.cut_until = std::max(path.cut_until, until);
  if (!reset) return;
  std::vector<std::pair<Session, SimDisk*>> lost;
  for (auto& [session, open] : sessions_) {
    if (open.nexus.relative_target_port == node.value()) lost.push_back({session, open.disk});
  }
  for (auto& [session, disk] : lost) {
    if (disk != nullptr) {
      disk->process_.post([disk, session] {
        if (disk->session_ == session) disk->lose("no path", false);
      });
    }
    end_session(session);
  }
}

bool SimUnit::path_cut(NodeId node) const {
  return shelf_.now() < paths_[node.value()].cut_until;
}

void SimUnit::heal() {
  for (auto& path : paths_) path.cut_until = {};
  faults.errors_until = faults.slow_until = {};
  faults.lost_writes = faults.misdirected_writes = 0;
  faults.lost_pool_writes = faults.misdirected_pool_writes = 0;
  power_on();
  hang(false);
}

}  // namespace duet::simulator
