// For tests: the disks of one identity in memory: labelled, with an empty pool, reserved by a
// supervisor; and an engine's paths to them.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "disk/label.h"
#include "disk/reservation_key.h"
#include "pool/pool.h"
#include "simulation/fake_disk.h"
#include "simulation/scheduler.h"

namespace duet::node {

class TestShelf {
 public:
  static constexpr std::uint64_t disk_size = 12 << 20;
  static inline const ClusterId cluster{0x1234};

  TestShelf(simulation::SimulatedScheduler& scheduler, NodeId owner, std::size_t disk_count = 2)
      : scheduler_(scheduler) {
    for (std::size_t i = 0; i < disk_count; ++i) {
      simulation::FakeMedium::Options options;
      options.name = "shelf" + std::to_string(owner.value()) + "/" + std::to_string(i);
      options.size = disk_size;
      options.seed = owner.value() * 100 + i;
      media.push_back(std::make_unique<simulation::FakeMedium>(scheduler, options));
      disk::Label label;
      label.cluster = cluster;
      label.id.bytes[0] = static_cast<std::uint8_t>(owner.value() * 16 + i);
      label.owner = owner;
      label.mailbox = true;
      label.position = static_cast<std::uint16_t>(i);
      label.disks_in_pool = static_cast<std::uint16_t>(disk_count);
      label.size = disk_size;
      label.pool[0] = owner.value();
      label.pool_name = "pool";
      labels.push_back(label);
      write_label(i);
    }
    connect_engine();
    auto pool = pool_disks();
    auto layout = pool::plan_layout(
        pool, disk_count > 1 ? raid::Protection::single : raid::Protection::none, 0);
    EXPECT_TRUE(layout) << layout.error().message;
    EXPECT_TRUE(wait([&](auto done) {
      pool::format_pool(scheduler_, labels[0].pool, pool, *layout, std::move(done));
    }));
  }

  void write_label(std::size_t i) {
    auto block = disk::encode_label(labels[i]);
    ASSERT_TRUE(block) << block.error().message;
    for (int copy : {0, 1}) media[i]->poke(disk::label_copy(copy).offset, *block);
  }

  // Without a label. For the engines to come.
  void add_blank() {
    simulation::FakeMedium::Options options;
    options.name = media.front()->options().name + "/" + std::to_string(media.size());
    options.size = disk_size;
    options.seed = 1000 + media.size();
    media.push_back(std::make_unique<simulation::FakeMedium>(scheduler_, options));
  }

  // A new engine process: new paths, without registrations.
  void connect_engine() {
    engine.clear();
    for (auto& medium : media) engine.push_back(medium->connect());
  }
  std::vector<ports::Disk*> disks() const {
    std::vector<ports::Disk*> all;
    for (const auto& disk : engine) all.push_back(disk.get());
    return all;
  }
  std::vector<pool::Pool::Disk> pool_disks() const {
    std::vector<pool::Pool::Disk> all;
    for (std::size_t i = 0; i < engine.size(); ++i) {
      all.push_back({engine[i].get(), labels[i].id, *disk::data_area(disk_size)});
    }
    return all;
  }

  // As the supervisor of `node` does it: key and reservation on every disk, and nobody else's key.
  ReservationKey reserve(
      NodeId node, Epoch epoch,
      ports::ReservationType type = ports::ReservationType::exclusive_access_registrants_only) {
    auto key = disk::make_key(cluster, node, disk::KeyRole::supervisor, epoch);
    supervisor.clear();
    for (auto& medium : media) supervisor.push_back(medium->connect());
    for (auto& path : supervisor) {
      EXPECT_TRUE(wait([&](auto done) { path->register_key(key, std::move(done)); }));
      auto held = reservation(*path);
      EXPECT_TRUE(wait([&](auto done) {
        if (held.reserved) {
          path->preempt(key, held.holder, type, true, std::move(done));
        } else {
          path->reserve(key, type, std::move(done));
        }
      }));
      for (auto other : keys(*path)) {
        if (other == key) continue;
        EXPECT_TRUE(
            wait([&](auto done) { path->preempt(key, other, type, true, std::move(done)); }));
      }
    }
    return key;
  }
  // How many nexuses are registered on disk `i`.
  std::size_t registrations(std::size_t i) { return keys(*media[i]->connect()).size(); }

  template <class Start>
  Status wait(Start start) {
    std::optional<Status> result;
    start(ports::Done<void>([&](Status status) { result = std::move(status); }));
    if (!scheduler_.run_until([&] { return result.has_value(); })) {
      return fail(ErrorCode::timed_out, "no answer");
    }
    return *result;
  }

  std::vector<std::unique_ptr<simulation::FakeMedium>> media;
  std::vector<disk::Label> labels;
  std::vector<std::unique_ptr<simulation::FakeDisk>> engine;
  std::vector<std::unique_ptr<simulation::FakeDisk>> supervisor;

 private:
  ports::ReservationState reservation(simulation::FakeDisk& path) {
    std::optional<ports::ReservationState> state;
    path.read_reservation([&](Result<ports::ReservationState> r) { state = *r; });
    EXPECT_TRUE(scheduler_.run_until([&] { return state.has_value(); }));
    return state.value_or(ports::ReservationState{});
  }
  std::vector<ReservationKey> keys(simulation::FakeDisk& path) {
    std::optional<std::vector<ReservationKey>> found;
    path.read_keys([&](Result<ports::RegisteredKeys> r) { found = r->keys; });
    EXPECT_TRUE(scheduler_.run_until([&] { return found.has_value(); }));
    return found.value_or(std::vector<ReservationKey>{});
  }
  simulation::SimulatedScheduler& scheduler_;
};

}  // namespace duet::node
