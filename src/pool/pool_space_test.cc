// Who may have the space there is: reservations, quotas, and deleting when nothing is left.
#include "pool/pool_test_bench.h"

namespace duet::pool {
namespace {

constexpr VolumeId vol0 = Pool::first_volume;

class PoolSpace : public testing::Test {
 public:
  void SetUp() override {
    PoolTestBench::Options options;
    options.disk_size = 16 << 20;
    bench = std::make_unique<PoolTestBench>(options);
    bench->start();
  }
  template <class Start>
  Result<VolumeId> made(Start start) {
    std::optional<Result<VolumeId>> result;
    start([&](Result<VolumeId> r) { result = std::move(r); });
    bench->scheduler.run_until([&] { return result.has_value(); });
    return result ? *result : fail(ErrorCode::timed_out, "no answer");
  }
  Result<VolumeId> volume(const std::string& name) {
    return made([&](auto done) { bench->pool->create_volume(name, std::move(done)); });
  }
  Result<VolumeId> snapshot(VolumeId of, const std::string& name) {
    return made([&](auto done) { bench->pool->create_snapshot(of, name, 0, std::move(done)); });
  }
  Status limit(VolumeId id, std::uint64_t quota, std::uint64_t reservation) {
    return bench->wait(
        [&](auto done) { bench->pool->set_limits(id, quota, reservation, std::move(done)); });
  }
  void settle() {
    bench->flush();
    bench->scheduler.run_for(seconds(1));
  }
  // Waits like a service does.
  template <class Try>
  Status patiently(Try attempt) {
    for (int i = 0; i < 50; ++i) {
      auto status = attempt();
      if (status || status.error().code != ErrorCode::busy) return status;
      settle();
    }
    return fail(ErrorCode::busy, "for ever");
  }
  Status write(LunNumber lun, std::uint64_t offset, std::uint64_t size) {
    Status status;
    for (std::uint64_t at = 0; status && at < size; at += 1 << 20) {
      const auto part = std::min<std::uint64_t>(size - at, 1 << 20);
      status = patiently([&] { return bench->write(lun, offset + at, part); });
    }
    return status;
  }
  Result<FileKey> create_file(VolumeId volume) {
    FileKey key{volume, {}};
    auto status = patiently([&] {
      return bench->run([&key](filesystem::View& view) -> Status {
        if (auto room = view.space(key.volume, 1); !room) return room;
        if (auto next = view.next_inode(key.volume); !next) return std::unexpected(next.error());
        key.inode = view.allocate_inode(key.volume);
        Inode inode;
        inode.type = filesystem::FileType::regular;
        inode.links = 1;
        view.set_inode(key, inode);
        return {};
      });
    });
    if (!status) return std::unexpected(status.error());
    return key;
  }
  Status write(FileKey file, std::uint64_t offset, std::uint64_t size) {
    auto data = bench->random_data(size);
    return patiently([&] {
      return bench->run([&](filesystem::View& view) -> Status {
        if (auto room = view.space(file.volume, size / block_size); !room) return room;
        if (auto inode = view.inode(file); !inode) return std::unexpected(inode.error());
        view.write(file, offset, data);
        return {};
      });
    });
  }
  Status remove(FileKey file) {
    return bench->run([&](filesystem::View& view) -> Status {
      if (auto inode = view.inode(file); !inode) return std::unexpected(inode.error());
      view.set_inode(file, Inode{});
      return {};
    });
  }
  // Thin LUNs take what they can get. How many bytes.
  std::uint64_t fill() {
    std::uint64_t taken = 0;
    Status status;
    for (int number = 0; status && number < 8; ++number) {
      auto thin = bench->create("thin" + std::to_string(number), 8 << 20);
      EXPECT_TRUE(thin);
      thin_.push_back(*thin);
      for (std::uint64_t at = 0; status && at < 8 << 20; at += 256 << 10) {
        status = write(*thin, at, 256 << 10);
        if (status) taken += 256 << 10;
      }
    }
    EXPECT_FALSE(status) << "the pool is larger than the test thinks";
    if (!status) {
      EXPECT_EQ(status.error().code, ErrorCode::no_space)
          << status.error().message << "; " << bench->pool->health();
    }
    return taken;
  }
  void restart() {
    bench->crash();
    bench->start(epoch = epoch.next());
  }

  std::unique_ptr<PoolTestBench> bench;
  std::vector<LunNumber> thin_;
  Epoch epoch{1};
};

TEST_F(PoolSpace, WhatAVolumeHasReservedNobodyElseGets) {
  auto kept = volume("kept");
  ASSERT_TRUE(kept);
  const auto before = bench->pool->capacity().free;
  ASSERT_TRUE(limit(*kept, 0, 12 << 20));
  EXPECT_LE(bench->pool->capacity().free, before - (12 << 20));
  EXPECT_EQ(bench->check(), "");
  restart();  // and it outlives us
  fill();
  EXPECT_EQ(bench->check(), "");
  auto file = create_file(*kept);
  ASSERT_TRUE(file) << file.error().message;
  for (std::uint64_t at = 0; at < 10 << 20; at += 512 << 10) {
    auto status = write(*file, at, 512 << 10);
    ASSERT_TRUE(status) << at << ": " << status.error().message;
  }
  EXPECT_EQ(bench->check(), "");
  // What it has taken is not kept a second time.
  settle();
  ASSERT_TRUE(limit(*kept, 0, 0));
  EXPECT_EQ(bench->check(), "");
}

TEST_F(PoolSpace, AReservationThatCannotBeHadIsRefused) {
  auto kept = volume("kept");
  ASSERT_TRUE(kept);
  auto status = limit(*kept, 0, 60 << 20);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::no_space) << status.error().message;
  status = limit(*kept, 1 << 20, 2 << 20);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::invalid);
  ASSERT_TRUE(limit(*kept, 0, 20 << 20));
  auto second = volume("second");
  ASSERT_TRUE(second);
  EXPECT_FALSE(limit(*second, 0, 24 << 20)) << "20 MiB of it are somebody else's";
  EXPECT_TRUE(limit(*second, 0, 8 << 20));
  EXPECT_TRUE(limit(*kept, 0, 0));
  EXPECT_TRUE(limit(*second, 0, 24 << 20));
  EXPECT_EQ(bench->check(), "");
}

// What its LUNs have reserved is part of what the volume has.
TEST_F(PoolSpace, AVolumeAndItsLunsReserveTheSameSpace) {
  auto record = bench->pool->prepare_create("mine", 4 << 20, true);
  ASSERT_TRUE(record);
  ASSERT_TRUE(bench->submit(*record));
  settle();
  const auto before = bench->pool->capacity().free;
  ASSERT_TRUE(limit(vol0, 0, 4 << 20));
  EXPECT_EQ(bench->check(), "");
  EXPECT_GE(bench->pool->capacity().free + (1 << 20), before);
  ASSERT_TRUE(write(LunNumber(0), 0, 4 << 20));
  settle();
  ASSERT_TRUE(snapshot(vol0, "now"));  // from now on all of it again
  EXPECT_EQ(bench->check(), "");
  EXPECT_LT(bench->pool->capacity().free + (3 << 20), before);
  restart();
  EXPECT_EQ(bench->check(), "");
  ASSERT_TRUE(bench->remove(LunNumber(0)));
  settle();
  EXPECT_EQ(bench->check(), "");
}

TEST_F(PoolSpace, AQuotaBindsItsVolumeOnly) {
  auto small = volume("small");
  ASSERT_TRUE(small);
  ASSERT_TRUE(limit(*small, 2 << 20, 0));
  auto file = create_file(*small);
  ASSERT_TRUE(file);
  Status status;
  std::uint64_t at = 0;
  for (; status && at < 4 << 20; at += 256 << 10) status = write(*file, at, 256 << 10);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::refused) << status.error().message;
  EXPECT_GE(at, 1u << 20);
  EXPECT_LE(at, 2u << 20);
  // Others are not concerned, and removing makes room.
  auto lun = bench->create("free", 4 << 20);
  ASSERT_TRUE(lun);
  ASSERT_TRUE(write(*lun, 0, 4 << 20));
  ASSERT_TRUE(remove(*file));
  settle();
  auto next = create_file(*small);
  ASSERT_TRUE(next) << next.error().message;
  EXPECT_TRUE(write(*next, 0, 1 << 20));
  EXPECT_EQ(bench->check(), "");
}

TEST_F(PoolSpace, ALunBeyondItsVolumesQuotaIsFullAndCanBeOverwritten) {
  auto lun = bench->create("data", 1 << 20);
  auto thin = bench->create("thin", 8 << 20);
  ASSERT_TRUE(lun && thin);
  ASSERT_TRUE(write(*lun, 0, 1 << 20));
  settle();
  ASSERT_TRUE(limit(vol0, (1 << 20) + (128 << 10), 0));
  auto status = write(*thin, 0, 1 << 20);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::no_space) << status.error().message;
  for (int round = 0; round < 3; ++round) ASSERT_TRUE(write(*lun, 0, 1 << 20)) << round;
  // A snapshot holds the old blocks: now it is too much.
  ASSERT_TRUE(snapshot(vol0, "before"));
  status = write(*lun, 0, 1 << 20);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::no_space);
  bench->verify();
  EXPECT_EQ(bench->check(), "");
}

TEST_F(PoolSpace, DeletingWorksWhenNothingIsLeft) {
  auto small = volume("small");
  ASSERT_TRUE(small);
  auto file = create_file(*small);
  ASSERT_TRUE(file);
  ASSERT_TRUE(write(*file, 0, 2 << 20));
  auto before = snapshot(*small, "before");
  ASSERT_TRUE(before);
  const auto taken = fill();
  auto more = write(*file, 2 << 20, 1 << 20);
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().code, ErrorCode::no_space) << more.error().message;
  ASSERT_TRUE(remove(*file));  // the snapshot has it
  settle();
  ASSERT_TRUE(
      bench->wait([&](auto done) { bench->pool->delete_snapshot(*before, std::move(done)); }));
  for (const LunNumber lun : thin_) ASSERT_TRUE(bench->remove(lun));
  thin_.clear();
  settle();
  settle();
  EXPECT_EQ(bench->check(), "");
  EXPECT_GE(fill(), taken);
}

}  // namespace
}  // namespace duet::pool
