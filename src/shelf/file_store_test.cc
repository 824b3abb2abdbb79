#include "shelf/file_store.h"

#include <gtest/gtest.h>

#include <fstream>

#include "shelf/shelf_fixture.h"

namespace duet::shelf {
namespace {

using scsi::StoreTag;
using Outcome = scsi::StoreDone::Outcome;
constexpr std::uint64_t size = 1u << 20;

class FileStoreTest : public testing::Test {
 protected:
  explicit FileStoreTest(bool sync = false) {
    config_.data = f.directory.path / "disk.img";
    config_.reservations = f.directory.path / "disk.reservations";
    config_.size = size;
    config_.sync = sync;
    auto file = DiskFile::open(config_.data, size);
    store.emplace(config_, std::move(*file), f.clock, f.workers, [this] { ++readies; });
  }

  static Slice filled(std::size_t bytes, int value) {
    return copy_to_slice(std::vector<std::byte>(bytes, static_cast<std::byte>(value)));
  }
  StoreTag write(std::uint64_t offset, int value, bool durable = true) {
    last_ = last_.next();
    store->perform(scsi::StoreWrite{last_, offset, {filled(512, value)}, durable});
    return last_;
  }
  scsi::StoreDone result(StoreTag tag) {
    for (;;) {
      for (auto& done : store->take_done()) done_.push_back(std::move(done));
      for (auto& done : done_)
        if (done.tag == tag) return done;
      f.posted.run_one();
    }
  }
  int read(std::uint64_t offset) {
    last_ = last_.next();
    store->perform(scsi::StoreRead{last_, offset, 512});
    const auto done = result(last_);
    EXPECT_EQ(done.outcome, Outcome::ok);
    return std::to_integer<int>(done.data.at(0).bytes[0]);
  }
  int in_file(std::uint64_t offset) {
    std::ifstream file(config_.data, std::ios::binary);
    file.seekg(static_cast<std::streamoff>(offset));
    return file.get();
  }
  Outcome flush() {
    last_ = last_.next();
    store->perform(scsi::StoreFlush{last_});
    return result(last_).outcome;
  }

  ShelfFixture f;
  StoreConfig config_;
  std::optional<FileStore> store;
  int readies = 0;
  StoreTag last_;
  std::vector<scsi::StoreDone> done_;
};

class FileStoreSyncTest : public FileStoreTest {
 protected:
  FileStoreSyncTest() : FileStoreTest(true) {}
};

TEST_F(FileStoreTest, WritesReadsZeroes) {
  EXPECT_EQ(read(0), 0);
  EXPECT_EQ(result(write(512, 7)).outcome, Outcome::ok);
  EXPECT_EQ(read(512), 7);
  EXPECT_EQ(in_file(512), 7);
  store->perform(scsi::StoreZero{last_ = last_.next(), 0, 4096, true});
  EXPECT_EQ(result(last_).outcome, Outcome::ok);
  EXPECT_EQ(read(512), 0);
}

TEST_F(FileStoreSyncTest, WritesReadsZeroes) {
  EXPECT_EQ(result(write(512, 7)).outcome, Outcome::ok);
  EXPECT_EQ(in_file(512), 7);
  EXPECT_EQ(flush(), Outcome::ok);
  store->perform(scsi::StoreZero{last_ = last_.next(), 0, 4096, true});
  EXPECT_EQ(result(last_).outcome, Outcome::ok);
  EXPECT_EQ(read(512), 0);
  EXPECT_GT(readies, 0);
}

TEST_F(FileStoreTest, CacheIsLostWithPowerUnlessFlushed) {
  EXPECT_EQ(result(write(0, 1, false)).outcome, Outcome::ok);
  EXPECT_EQ(read(0), 1);
  EXPECT_EQ(in_file(0), 0);
  EXPECT_EQ(flush(), Outcome::ok);
  EXPECT_EQ(in_file(0), 1);
  EXPECT_EQ(result(write(0, 2, false)).outcome, Outcome::ok);
  EXPECT_EQ(result(write(512, 3, true)).outcome, Outcome::ok);  // FUA
  store->power_off();
  EXPECT_EQ(read(0), 1);
  EXPECT_EQ(read(512), 3);
}

TEST_F(FileStoreTest, ForceUnitAccessReplacesWhatIsCached) {
  result(write(0, 1, false));
  result(write(0, 2, true));
  EXPECT_EQ(read(0), 2);
  EXPECT_EQ(flush(), Outcome::ok);
  EXPECT_EQ(read(0), 2);
}

TEST_F(FileStoreTest, CacheIsBounded) {
  config_.data = f.directory.path / "large.img";
  config_.size = 2 * max_cache_bytes;
  store.emplace(config_, std::move(*DiskFile::open(config_.data, config_.size)), f.clock, f.workers,
                [] {});
  const std::uint64_t piece = 1u << 20;
  const auto put = [&](std::uint64_t offset) {
    store->perform(scsi::StoreWrite{last_ = last_.next(), offset, {filled(piece, 5)}, false});
    EXPECT_EQ(result(last_).outcome, Outcome::ok);
  };
  for (std::uint64_t offset = 0; offset < max_cache_bytes; offset += piece) put(offset);
  EXPECT_EQ(in_file(0), 0);
  put(max_cache_bytes);  // goes through
  EXPECT_EQ(in_file(max_cache_bytes), 5);
  store->power_off();
  EXPECT_EQ(read(0), 0);
  EXPECT_EQ(read(max_cache_bytes), 5);
}

TEST_F(FileStoreTest, SlowWorkCanBeAbortedAndNeverLands) {
  store->set_delay(seconds(1));
  const auto tag = write(0, 9);
  EXPECT_TRUE(store->take_done().empty());
  store->perform(scsi::StoreAbort{tag});
  EXPECT_EQ(result(tag).outcome, Outcome::cancelled);
  f.clock.run_for(seconds(5));
  EXPECT_EQ(in_file(0), 0);
  const auto second = write(0, 9);
  f.clock.run_for(seconds(1));
  EXPECT_EQ(result(second).outcome, Outcome::ok);
  EXPECT_EQ(in_file(0), 9);
}

TEST_F(FileStoreSyncTest, AbortOfWorkInAThreadGivesItsResult) {
  const auto tag = write(0, 9);
  store->perform(scsi::StoreAbort{tag});
  EXPECT_EQ(result(tag).outcome, Outcome::ok);  // it could not be stopped: it says so
}

TEST_F(FileStoreSyncTest, AfterPowerOffNothingLandsAndNothingIsAnswered) {
  for (int i = 0; i < 50; ++i) write(static_cast<std::uint64_t>(i) * 512, 9);
  store->power_off();
  const int before = in_file(0);
  while (f.posted.run_if_any()) {
  }
  EXPECT_TRUE(store->take_done().empty());
  EXPECT_EQ(in_file(0), before);
  EXPECT_EQ(readies, 0);
}

TEST_F(FileStoreTest, Failing) {
  store->set_failing(true);
  EXPECT_EQ(result(write(0, 1)).outcome, Outcome::write_failed);
  store->perform(scsi::StoreRead{last_ = last_.next(), 0, 512});
  EXPECT_EQ(result(last_).outcome, Outcome::read_failed);
  EXPECT_EQ(flush(), Outcome::write_failed);
  store->perform(scsi::StoreReservations{last_ = last_.next(), {std::byte{1}}});
  EXPECT_EQ(result(last_).outcome, Outcome::write_failed);
}

TEST_F(FileStoreTest, ReservationsAreReplacedAsAWhole) {
  for (int i = 1; i < 4; ++i) {
    store->perform(scsi::StoreReservations{
        last_ = last_.next(),
        std::vector<std::byte>(static_cast<std::size_t>(i) * 100, std::byte(i))});
    EXPECT_EQ(result(last_).outcome, Outcome::ok);
    const auto content = load_file(config_.reservations);
    ASSERT_TRUE(content && *content);
    EXPECT_EQ((*content)->size(), static_cast<std::size_t>(i) * 100);
  }
  EXPECT_FALSE(std::filesystem::exists(config_.reservations.string() + ".new"));
  EXPECT_FALSE(*load_file(f.directory.path / "none"));
}

TEST_F(FileStoreTest, RefusesAFileOfAnotherSize) {
  EXPECT_EQ(DiskFile::open(config_.data, size * 2).error().code, ErrorCode::invalid);
}

}  // namespace
}  // namespace duet::shelf
