// A disk in memory that answers in the same turn of its loop, and a loop without anything to wait
// for: what is left is the cost of the code above. Counts what is written.
#pragma once

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "boot_clock.h"
#include "ports/disk.h"

namespace duet::load {

class BusyLoop final : public ports::Scheduler {
 public:
  Instant now() const override { return load::now(); }
  ports::TimerId at(Instant when, ports::Task task) override {
    const ports::TimerId id(++last_);
    timers_.emplace(std::pair(when, id), std::move(task));
    return id;
  }
  void cancel(ports::TimerId timer) override {
    std::erase_if(timers_, [&](const auto& entry) { return entry.first.second == timer; });
  }
  void post(ports::Task task) override { tasks_.push_back(std::move(task)); }

  template <class Condition>
  void run_until(Condition condition) {
    while (!condition()) step();
  }
  void step() {
    if (!tasks_.empty()) {
      ports::Task task = std::move(tasks_.front());
      tasks_.pop_front();
      return task();
    }
    if (timers_.empty() || timers_.begin()->first.first > now()) return;
    ports::Task task = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    task();
  }

 private:
  std::uint64_t last_ = 0;
  std::deque<ports::Task> tasks_;
  std::map<std::pair<Instant, ports::TimerId>, ports::Task> timers_;
};

class InstantDisk final : public ports::Disk {
 public:
  InstantDisk(ports::Scheduler& scheduler, std::string name, std::uint64_t size)
      : scheduler_(scheduler), name_(std::move(name)), bytes_(make_buffer(size)) {
    geometry_ = {size, 4096, true, name_};
  }
  std::uint64_t written() const { return written_; }  // bytes
  std::uint64_t read_bytes() const { return read_; }

  const std::string& name() const override { return name_; }
  bool connected() const override { return true; }
  const ports::DiskGeometry& geometry() const override { return geometry_; }
  void on_connection(std::move_only_function<void(bool)>) override {}
  void on_attention(std::move_only_function<void(ports::Attention)>) override {}
  void read(std::uint64_t offset, MutableBytes into, ports::Done<void> done) override {
    std::memcpy(into.data(), &bytes_.bytes[offset], into.size());
    read_ += into.size();
    answer(std::move(done));
  }
  void write(std::uint64_t offset, std::vector<Slice> data, bool, ports::Done<void> done) override {
    for (const Slice& slice : data) {
      std::memcpy(&bytes_.bytes[offset], slice.bytes.data(), slice.bytes.size());
      offset += slice.bytes.size();
      written_ += slice.bytes.size();
    }
    answer(std::move(done));
  }
  void flush(ports::Done<void> done) override { answer(std::move(done)); }
  void register_key(ReservationKey, ports::Done<void> done) override { answer(std::move(done)); }
  void reserve(ReservationKey, ports::ReservationType, ports::Done<void> done) override {
    answer(std::move(done));
  }
  void release(ReservationKey, ports::ReservationType, ports::Done<void> done) override {
    answer(std::move(done));
  }
  void preempt(ReservationKey, ReservationKey, ports::ReservationType, bool,
               ports::Done<void> done) override {
    answer(std::move(done));
  }
  void read_keys(ports::Done<ports::RegisteredKeys> done) override { answer(std::move(done)); }
  void read_reservation(ports::Done<ports::ReservationState> done) override {
    answer(std::move(done));
  }

 private:
  template <class T>
  void answer(ports::Done<T> done) {
    scheduler_.post([done = std::move(done)]() mutable {
      if constexpr (std::is_void_v<T>) {
        done({});
      } else {
        done(T{});
      }
    });
  }

  ports::Scheduler& scheduler_;
  std::string name_;
  OwnedBuffer bytes_;
  ports::DiskGeometry geometry_;
  std::uint64_t written_ = 0;
  std::uint64_t read_ = 0;
};

}  // namespace duet::load
