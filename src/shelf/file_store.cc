#include "shelf/file_store.h"

#include <algorithm>
#include <utility>

namespace duet::shelf {

using scsi::StoreTag;

namespace {

scsi::StoreDone::Outcome write_outcome(const Status& status) {
  using Outcome = scsi::StoreDone::Outcome;
  if (status) return Outcome::ok;
  return status.error().code == ErrorCode::no_space ? Outcome::no_space : Outcome::write_failed;
}

std::uint64_t size_of(const std::vector<Slice>& data) {
  std::uint64_t size = 0;
  for (const auto& slice : data) size += slice.bytes.size();
  return size;
}

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};

}  // namespace

FileStore::FileStore(StoreConfig config, DiskFile file, ports::Scheduler& scheduler,
                     Workers& workers, std::function<void()> ready)
    : config_(std::move(config)),
      file_(std::make_shared<const DiskFile>(std::move(file))),
      scheduler_(scheduler),
      workers_(workers),
      ready_(std::move(ready)),
      cache_(config_.block_size) {}

FileStore::~FileStore() {
  power_off();
}

std::vector<scsi::StoreDone> FileStore::take_done() {
  return std::exchange(done_, {});
}

void FileStore::done(StoreTag tag, Outcome outcome, std::vector<Slice> data) {
  done_.push_back({.tag = tag, .outcome = outcome, .data = std::move(data)});
}

// The job's result comes back to the loop unless the power went off meanwhile.
template <class Job, class Then>
void FileStore::in_thread(Job job, Then then) {
  std::weak_ptr<Life> life = life_;
  workers_.run([this, life, job = std::move(job), then = std::move(then)]() mutable -> ports::Task {
    auto result = job();
    return [this, life, then = std::move(then), result = std::move(result)]() mutable {
      if (life.expired()) return;
      then(std::move(result));
      ready_();
    };
  });
}

void FileStore::perform(scsi::Action&& action) {
  if (const auto* cancel = std::get_if<scsi::StoreAbort>(&action)) return abort(cancel->tag);
  // Reservations are not on the slow medium: a slow disk can be fenced at once.
  if (delay_ == Duration(0) || std::holds_alternative<scsi::StoreReservations>(action))
    return start(std::move(action));
  const StoreTag tag = std::visit(Overloaded{
                                      [](const scsi::StoreRead& w) { return w.tag; },
                                      [](const scsi::StoreWrite& w) { return w.tag; },
                                      [](const scsi::StoreZero& w) { return w.tag; },
                                      [](const scsi::StoreFlush& w) { return w.tag; },
                                      [](const auto&) -> StoreTag { UNREACHABLE(); },
                                  },
                                  action);
  auto timer = scheduler_.at(scheduler_.now() + delay_, [this, tag] {
    auto held = held_.extract(tag);
    ASSERT(!held.empty());
    start(std::move(held.mapped().action));
    ready_();
  });
  held_.emplace(tag, Held{std::move(action), timer});
}

void FileStore::abort(StoreTag tag) {
  // What was begun runs to its end, which comes by itself; what was held is dropped.
  auto held = held_.extract(tag);
  if (held.empty()) return;
  scheduler_.cancel(held.mapped().timer);
  done(tag, Outcome::cancelled);
}

void FileStore::start(scsi::Action&& action) {
  std::visit(Overloaded{
                 [&](scsi::StoreRead& w) { read(w); },
                 [&](scsi::StoreWrite& w) { write(w); },
                 [&](scsi::StoreZero& w) { zero(w); },
                 [&](scsi::StoreFlush& w) { flush(w.tag); },
                 [&](scsi::StoreReservations& w) { store_reservations(w); },
                 [](auto&) { UNREACHABLE(); },
             },
             action);
}

void FileStore::read(const scsi::StoreRead& work) {
  if (failing_) return done(work.tag, Outcome::read_failed);
  auto buffer = make_buffer(work.length);
  if (file_->read_if_cached(work.offset, buffer.bytes)) {
    cache_.overlay(work.offset, buffer.bytes);
    return done(work.tag, Outcome::ok, {buffer.slice()});
  }
  in_thread(
      [file = file_, buffer, offset = work.offset] { return file->read(offset, buffer.bytes); },
      [this, buffer, tag = work.tag, offset = work.offset](Status status) {
        cache_.overlay(offset, buffer.bytes);
        if (status)
          done(tag, Outcome::ok, {buffer.slice()});
        else
          done(tag, Outcome::read_failed);
      });
}

void FileStore::write(const scsi::StoreWrite& work) {
  if (failing_) return done(work.tag, Outcome::write_failed);
  const auto size = size_of(work.data);
  if (!work.durable && cache_.bytes() + size <= max_cache_bytes) {
    cache_.put(work.offset, work.data);
    return done(work.tag, Outcome::ok);
  }
  cache_.forget(work.offset, size);
  if (!config_.sync) return done(work.tag, write_outcome(file_->write(work.offset, work.data)));
  in_thread(
      [file = file_, offset = work.offset, data = work.data] {
        auto status = file->write(offset, data);
        return status ? file->sync() : status;
      },
      [this, tag = work.tag](Status status) { done(tag, write_outcome(status)); });
}

void FileStore::zero(const scsi::StoreZero& work) {
  if (failing_) return done(work.tag, Outcome::write_failed);
  cache_.forget(work.offset, work.length);
  if (!config_.sync) return done(work.tag, write_outcome(file_->zero(work.offset, work.length)));
  in_thread(
      [file = file_, offset = work.offset, length = work.length] {
        auto status = file->zero(offset, length);
        return status ? file->sync() : status;
      },
      [this, tag = work.tag](Status status) { done(tag, write_outcome(status)); });
}

void FileStore::flush(StoreTag tag) {
  if (failing_) return done(tag, Outcome::write_failed);
  // Written by the loop, so that a later write to a block cannot be overtaken by its flush.
  for (const auto& extent : cache_.extents())
    if (auto status = file_->write(extent.offset, extent.data); !status)
      return done(tag, write_outcome(status));
  cache_.clear();
  if (!config_.sync) return done(tag, Outcome::ok);
  in_thread([file = file_] { return file->sync(); },
            [this, tag](Status status) { done(tag, write_outcome(status)); });
}

void FileStore::store_reservations(const scsi::StoreReservations& work) {
  if (failing_) return done(work.tag, Outcome::write_failed);
  in_thread([path = config_.reservations, state = work.state] { return replace_file(path, state); },
            [this, tag = work.tag](Status status) { done(tag, write_outcome(status)); });
}

void FileStore::power_off() {
  for (const auto& [tag, held] : held_) scheduler_.cancel(held.timer);
  held_.clear();
  cache_.clear();
  done_.clear();
  life_ = std::make_shared<Life>();
  workers_.wait_idle();
}

}  // namespace duet::shelf
