#include "simulation/disk_trace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "simulation/scheduler.h"

namespace duet::simulation {
namespace {

class DiskTraceTest : public testing::Test {
 public:
  DiskTraceTest() {
    media.push_back(std::make_unique<FakeMedium>(scheduler, FakeMedium::Options()));
  }
  void write(std::uint64_t offset, std::size_t size, int value, bool durable = false) {
    auto buffer = make_buffer(size);
    std::ranges::fill(buffer.bytes, static_cast<std::byte>(value));
    path->write(offset, {buffer.slice()}, durable, [](Status) {});
  }
  void flush() {
    path->flush([](Status) {});
  }
  // What may be seen at these places at the end of the trace, as texts.
  std::set<std::string> seen(const DiskTrace& trace, const std::vector<std::uint64_t>& places) {
    std::set<std::string> found;
    Random random(7);
    DiskTrace::Cursor cursor(trace);
    while (cursor.moment() < trace.size()) cursor.advance();
    for (int i = 0; i < 200; ++i) {
      const auto images = cursor.images([&] { return random.next(); });
      std::string text;
      for (const std::uint64_t place : places) {
        std::byte byte{};
        images[0].read(place, MutableBytes(&byte, 1));
        text += std::to_string(std::to_integer<int>(byte)) + " ";
      }
      found.insert(text);
    }
    return found;
  }

  SimulatedScheduler scheduler;
  std::vector<std::unique_ptr<FakeMedium>> media;
  std::unique_ptr<FakeDisk> path;
};

TEST_F(DiskTraceTest, WhatIsDurableIsThereAndTheRestMayBe) {
  path = media[0]->connect();
  DiskTrace trace(media);
  write(0, 512, 1);
  write(512, 512, 2, true);
  EXPECT_TRUE(trace.begins(trace.size()));
  EXPECT_EQ(seen(trace, {0, 512}), (std::set<std::string>{"0 0 ", "0 2 ", "1 0 ", "1 2 "}));
  scheduler.run_all();
  EXPECT_FALSE(trace.begins(trace.size()));
  EXPECT_EQ(seen(trace, {0, 512}), (std::set<std::string>{"0 2 ", "1 2 "}));
  flush();
  EXPECT_EQ(seen(trace, {0, 512}), (std::set<std::string>{"0 2 ", "1 2 "}));
  write(1024, 512, 3);  // not what the flush covers
  scheduler.run_all();
  EXPECT_EQ(seen(trace, {0, 512, 1024}), (std::set<std::string>{"1 2 0 ", "1 2 3 "}));
}

TEST_F(DiskTraceTest, LaterWritesWinAndTearAtSectors) {
  path = media[0]->connect();
  write(0, 1024, 1);
  flush();
  scheduler.run_all();
  flush();
  scheduler.run_all();
  DiskTrace trace(media);
  write(0, 1024, 2);
  scheduler.run_all();
  write(0, 512, 3, true);
  scheduler.run_all();
  EXPECT_EQ(seen(trace, {0, 511, 512, 1023}), (std::set<std::string>{"3 3 1 1 ", "3 3 2 2 "}));
}

TEST_F(DiskTraceTest, CopiesOfAnImageShareNothingThatIsWritten) {
  DiskImage image(3 * DiskImage::page_size);
  const std::vector<std::byte> ones(5000, std::byte{1});
  image.write(1000, ones);
  DiskImage copy = image;
  EXPECT_EQ(copy.fingerprint(), image.fingerprint());
  copy.write(4096, Bytes(ones).first(1));
  EXPECT_EQ(copy.fingerprint(), image.fingerprint());  // as it was
  const std::byte two{2};
  copy.write(4097, Bytes(&two, 1));
  EXPECT_NE(copy.fingerprint(), image.fingerprint());
  std::vector<std::byte> seen(2 * DiskImage::page_size);
  image.read(0, seen);
  EXPECT_EQ(std::ranges::count(seen, std::byte{1}), 5000);
  EXPECT_EQ(seen[999], std::byte{0});
  copy.write(0, std::vector<std::byte>(3 * DiskImage::page_size));
  EXPECT_EQ(copy.fingerprint(), DiskImage(3 * DiskImage::page_size).fingerprint());
}

}  // namespace
}  // namespace duet::simulation
