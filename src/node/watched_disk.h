// A disk path that counts what it does: operations, failures, how long they took, and knows which
// writes have not ended. Passes everything on unchanged.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ports/disk.h"

namespace duet::node {

struct DiskFigures {
  std::uint64_t operations = 0;  // ended
  std::uint64_t errors = 0;      // but reservation conflicts: those are no fault of the path
  std::string last_error;
  // Since the last take_latency():
  Duration slowest{};
  Duration total{};
  std::uint64_t timed = 0;
};

class WatchedDisk final : public ports::Disk {
 public:
  // Both outlive it.
  WatchedDisk(ports::Scheduler& scheduler, ports::Disk& disk)
      : scheduler_(scheduler), disk_(disk) {}

  const DiskFigures& figures() const { return *figures_; }
  // A write that was sent may land until it has ended, whoever waits for it.
  bool writing() const { return writes_->open > 0; }
  // When no write is under way, at the latest after the command timeout; never before it returns.
  void when_settled(std::move_only_function<void()> callback) {
    if (writing()) {
      writes_->waiting.push_back(std::move(callback));
    } else {
      scheduler_.post(std::move(callback));
    }
  }
  // Slowest and mean latency since the call before; zero without an operation.
  std::pair<Duration, Duration> take_latency() {
    auto& f = *figures_;
    auto mean = f.timed == 0 ? Duration{} : f.total / static_cast<std::int64_t>(f.timed);
    auto slowest = std::exchange(f.slowest, Duration{});
    f.total = {};
    f.timed = 0;
    return {slowest, mean};
  }

  const std::string& name() const override { return disk_.name(); }
  bool connected() const override { return disk_.connected(); }
  const ports::DiskGeometry& geometry() const override { return disk_.geometry(); }
  void on_connection(std::move_only_function<void(bool)> callback) override {
    disk_.on_connection(std::move(callback));
  }
  void on_attention(std::move_only_function<void(ports::Attention)> callback) override {
    disk_.on_attention(std::move(callback));
  }
  void read(std::uint64_t offset, MutableBytes into, ports::Done<void> done) override {
    disk_.read(offset, into, watch<void>(std::move(done)));
  }
  void write(std::uint64_t offset, std::vector<Slice> data, bool durable,
             ports::Done<void> done) override {
    ++writes_->open;
    disk_.write(offset, std::move(data), durable,
                watch<void>([&scheduler = scheduler_, writes = writes_,
                             done = std::move(done)](Result<void> r) mutable {
                  if (--writes->open == 0) {
                    for (auto& waiting : std::exchange(writes->waiting, {})) {
                      scheduler.post(std::move(waiting));
                    }
                  }
                  done(std::move(r));
                }));
  }
  void flush(ports::Done<void> done) override { disk_.flush(watch<void>(std::move(done))); }
  void register_key(ReservationKey key, ports::Done<void> done) override {
    disk_.register_key(key, watch<void>(std::move(done)));
  }
  void reserve(ReservationKey key, ports::ReservationType type, ports::Done<void> done) override {
    disk_.reserve(key, type, watch<void>(std::move(done)));
  }
  void release(ReservationKey key, ports::ReservationType type, ports::Done<void> done) override {
    disk_.release(key, type, watch<void>(std::move(done)));
  }
  void preempt(ReservationKey key, ReservationKey victim, ports::ReservationType type, bool abort,
               ports::Done<void> done) override {
    disk_.preempt(key, victim, type, abort, watch<void>(std::move(done)));
  }
  void read_keys(ports::Done<ports::RegisteredKeys> done) override {
    disk_.read_keys(watch<ports::RegisteredKeys>(std::move(done)));
  }
  void read_reservation(ports::Done<ports::ReservationState> done) override {
    disk_.read_reservation(watch<ports::ReservationState>(std::move(done)));
  }

 private:
  struct Writes {
    std::size_t open = 0;
    std::vector<std::move_only_function<void()>> waiting;
  };

  template <class T>
  ports::Done<T> watch(ports::Done<T> done) {
    return [&scheduler = scheduler_, figures = figures_, since = scheduler_.now(),
            done = std::move(done)](Result<T> r) mutable {
      auto took = scheduler.now() - since;
      ++figures->operations;
      ++figures->timed;
      figures->total += took;
      figures->slowest = std::max(figures->slowest, took);
      if (!r && r.error().code != ErrorCode::reservation_conflict) {
        ++figures->errors;
        figures->last_error = r.error().message;
      }
      done(std::move(r));
    };
  }

  ports::Scheduler& scheduler_;
  ports::Disk& disk_;
  std::shared_ptr<DiskFigures> figures_ = std::make_shared<DiskFigures>();
  std::shared_ptr<Writes> writes_ = std::make_shared<Writes>();
};

}  // namespace duet::node
