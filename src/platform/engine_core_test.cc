// The raw dump of a real process, as its supervisor writes it.
#include "platform/engine_core.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <optional>

#include "coredump/chunk_reader.h"
#include "disk/areas.h"
#include "platform/crash_fixture.h"

namespace duet::platform {
namespace {

using Buffer = std::vector<std::byte>;
using Piece = ports::CoreSource::Piece;
constexpr std::uint64_t room = 256 * 1024 * 1024;

ports::CoreSource::Dump order() {
  ports::CoreSource::Dump dump;
  dump.node = NodeId(1);
  dump.epoch = Epoch(7);
  dump.boot_nonce = BootNonce(5);
  dump.version = "1.0";
  dump.reason = "a test";
  dump.cache = true;
  dump.room = room;
  return dump;
}

class EngineCoreTest : public testing::Test {
 protected:
  Result<void> stop() {
    std::optional<Result<void>> stopped;
    core.stop([&](Result<void> r) { stopped = std::move(r); });
    EXPECT_TRUE(loop.run_until([&] { return stopped.has_value(); }, seconds(10)));
    return stopped.value_or(fail(ErrorCode::timed_out, "not stopped"));
  }
  Result<Piece> next() {
    std::optional<Result<Piece>> piece;
    core.next([&](Result<Piece> p) { piece = std::move(p); });
    EXPECT_TRUE(loop.run_until([&] { return piece.has_value(); }, seconds(10)));
    return std::move(piece).value_or(fail(ErrorCode::timed_out, "no piece"));
  }
  EventLoop loop;
  Crash crash{"large"};
  EngineCore core{loop, crash.pid()};
};

TEST_F(EngineCoreTest, WhatItGivesIsADumpOfTheProcess) {
  ASSERT_TRUE(stop());
  core.begin(order());
  Buffer raw;
  for (bool last = false; !last;) {
    auto piece = next();
    ASSERT_TRUE(piece) << piece.error().message;
    raw.insert(raw.end(), piece->blocks.bytes.begin(), piece->blocks.bytes.end());
    last = piece->last;
    if (last) EXPECT_EQ(piece->core_done, piece->core_total);
  }
  auto reader = *coredump::ChunkReader::make({BootNonce(5), Epoch(7)}, room);
  Buffer elf;
  std::optional<coredump::Information> information;
  while (reader->phase() == coredump::ChunkReader::Phase::reading) {
    auto part = reader->on_bytes(Bytes(raw).subspan(reader->next().offset, reader->next().size));
    if (!part) continue;
    if (part->kind == coredump::ChunkKind::information) {
      information = *coredump::decode_information(part->plain);
    } else {
      elf.insert(elf.end(), part->plain.begin(), part->plain.end());
    }
  }
  EXPECT_EQ(reader->phase(), coredump::ChunkReader::Phase::complete) << reader->reason();
  EXPECT_EQ(std::memcmp(elf.data(), "\177ELF", 4), 0);
  ASSERT_TRUE(information);
  EXPECT_EQ(information->reason, "a test");
  EXPECT_EQ(information->version, "1.0");
}

TEST_F(EngineCoreTest, OfAProcessThatIsKilledNothingMoreComes) {
  ASSERT_TRUE(stop());
  core.begin(order());
  ASSERT_TRUE(next());
  ASSERT_EQ(::kill(crash.pid(), SIGKILL), 0);
  // What was read before may still come.
  std::uint64_t done = 0;
  for (std::size_t i = 0; i <= EngineCore::max_ahead + 1; ++i) {
    auto piece = next();
    if (!piece) {
      EXPECT_EQ(piece.error().code, ErrorCode::not_found);
      return;
    }
    EXPECT_FALSE(piece->last);
    EXPECT_GT(piece->core_done, done);
    done = piece->core_done;
  }
  ADD_FAILURE() << "pieces of a process that has ended";
}

TEST_F(EngineCoreTest, AProcessThatHasEndedCannotBeStopped) {
  ASSERT_EQ(::kill(crash.pid(), SIGKILL), 0);
  siginfo_t ended{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(crash.pid()), &ended, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(stop().error().code, ErrorCode::not_found);
}

TEST_F(EngineCoreTest, WhenItIsLeftThereIsNothingMore) {
  ASSERT_TRUE(stop());
  core.leave();
  core.begin(order());
  EXPECT_EQ(next().error().code, ErrorCode::not_found);
}

}  // namespace
}  // namespace duet::platform
