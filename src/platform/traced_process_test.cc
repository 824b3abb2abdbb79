// Real processes crash; their cores go through the raw dump and back, and gdb reads them.
#include "platform/traced_process.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "coredump/chunk_reader.h"
#include "coredump/core_layout.h"
#include "coredump/dump_writer.h"
#include "platform/crash_fixture.h"

namespace duet::platform {
namespace {

constexpr coredump::DumpName dump{BootNonce(5), Epoch(7)};
constexpr std::uint64_t room = 256 * 1024 * 1024;
using Buffer = std::vector<std::byte>;

// Through the raw dump and back.
Buffer core_of(const Crash& crash, bool everything = false) {
  auto process = TracedProcess::stop(crash.pid(), seconds(10));
  EXPECT_TRUE(process) << (process ? "" : process.error().message);
  EXPECT_EQ((*process)->running(), 0U);
  auto image = (*process)->image(crash.failure);
  EXPECT_TRUE(image);
  EXPECT_EQ(image->threads.front().id, crash.failure.thread);
  coredump::CoreStream stream(
      coredump::lay_out_core(*image, everything),
      [&](std::uint64_t at, MutableBytes out) { return (*process)->read_memory(at, out); });
  coredump::Information information;
  information.boot_nonce = dump.boot_nonce;
  information.epoch = dump.epoch;
  auto writer = *coredump::DumpWriter::make(information, room, stream.total(),
                                            [&](MutableBytes out) { return stream.next(out); });
  Buffer raw;
  auto append = [](Buffer& to, Bytes bytes) { to.insert(to.end(), bytes.begin(), bytes.end()); };
  for (int effort = 0, last = 0; last == 0;
       effort = (effort + 1) % coredump::ChunkWriter::efforts) {
    auto piece = *writer->next(effort);
    append(raw, piece.blocks.bytes);
    last = piece.last ? 1 : 0;
  }
  EXPECT_EQ(stream.done(), stream.total());

  auto reader = *coredump::ChunkReader::make(dump, room);
  Buffer core;
  while (reader->phase() == coredump::ChunkReader::Phase::reading) {
    auto part = reader->on_bytes(Bytes(raw).subspan(reader->next().offset, reader->next().size));
    if (part && part->kind == coredump::ChunkKind::core) append(core, part->plain);
  }
  EXPECT_EQ(reader->phase(), coredump::ChunkReader::Phase::complete) << reader->reason();
  EXPECT_EQ(core.size(), stream.total());
  return core;
}

bool contains(const Buffer& core, std::string_view text) {
  return !std::ranges::search(core, std::as_bytes(std::span(text))).empty();
}

bool gdb_is_there() {
  return std::system("gdb --version >/dev/null 2>&1") == 0;
}

struct How {
  const char* how;
  int signal;
  const char* function;
};
class CoreOf : public ::testing::TestWithParam<How> {};

TEST_P(CoreOf, NamesTheFunctionThatFailed) {
  Crash crash(GetParam().how);
  EXPECT_EQ(crash.failure.signal, GetParam().signal);
  auto core = core_of(crash);
  EXPECT_EQ(std::memcmp(core.data(), "\177ELF", 4), 0);
  if (!gdb_is_there()) GTEST_SKIP() << "gdb is not installed: the core was made, but not read";
  auto shown = gdb(core, "bt 12' -ex 'thread apply all bt 12");
  // The thread that failed is the one that gdb looks at first.
  auto others = shown.find("\nThread ");
  EXPECT_LT(shown.find(GetParam().function), others) << shown;
  EXPECT_NE(shown.find("thread_that_waits", others), std::string::npos) << shown;
}

INSTANTIATE_TEST_SUITE_P(Crashes, CoreOf,
                         ::testing::Values(How{"null", SIGSEGV, "function_with_null_dereference"},
                                           How{"abort", SIGABRT, "function_that_aborts"},
                                           How{"overflow", SIGSEGV, "function_that_never_returns"},
                                           How{"hang", 0, "function_that_hangs"}),
                         [](const auto& info) { return info.param.how; });

TEST(TracedProcess, ATruncatedCoreStillNamesTheFunction) {
  Crash crash("null");
  auto core = core_of(crash);
  core.resize(core.size() / 2);
  if (!gdb_is_there()) GTEST_SKIP() << "gdb is not installed: the core was made, but not read";
  auto shown = gdb(core, "bt");
  EXPECT_NE(shown.find("function_with_null_dereference"), std::string::npos) << shown;
}

TEST(TracedProcess, ExcludedMemoryIsInTheCoreOnlyIfAskedFor) {
  Crash crash("null");
  auto core = core_of(crash);
  EXPECT_TRUE(contains(core, "visiblememory"));
  EXPECT_FALSE(contains(core, "privatememory"));
  EXPECT_TRUE(contains(core_of(crash, true), "privatememory"));
}

TEST(TracedProcess, RunsOnWhenItIsLetGo) {
  Crash crash("hang");
  {
    auto process = TracedProcess::stop(crash.pid(), seconds(10));
    ASSERT_TRUE(process);
    EXPECT_EQ((*process)->stopped(), 2U);
    // One tracer only.
    EXPECT_EQ(TracedProcess::stop(crash.pid(), seconds(10)).error().code, ErrorCode::io_error);
  }
  EXPECT_TRUE(TracedProcess::stop(crash.pid(), seconds(10)));
}

TEST(TracedProcess, OneThatDoesNotStopInTimeIsLeftAlone) {
  Crash crash("hang");
  // A limit that is over: whether a thread has stopped by then is a race, but nobody waits.
  auto process = TracedProcess::stop(crash.pid(), Duration(0));
  ASSERT_TRUE(process);
  EXPECT_EQ((*process)->stopped() + (*process)->running(), 2U);
  (*process)->end(seconds(10));
}

TEST(TracedProcess, OneThatEndsMeanwhileReadsAsNothing) {
  Crash crash("hang");
  auto process = TracedProcess::stop(crash.pid(), seconds(10));
  ASSERT_TRUE(process);
  auto image = (*process)->image(crash.failure);
  ASSERT_TRUE(image);
  Buffer out(4096);
  EXPECT_GT((*process)->read_memory(image->threads.front().stack_pointer, out), 0U);
  EXPECT_EQ((*process)->read_memory(0, out), 0U);
  EXPECT_FALSE((*process)->memory_gone());
  (*process)->end(seconds(10));
  siginfo_t ended{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(crash.pid()), &ended, WEXITED | WNOWAIT), 0);
  EXPECT_EQ((*process)->read_memory(image->threads.front().stack_pointer, out), 0U);
  EXPECT_TRUE((*process)->memory_gone());
  EXPECT_EQ((*process)->image(crash.failure).error().code, ErrorCode::not_found);
  EXPECT_EQ(TracedProcess::stop(crash.pid(), seconds(1)).error().code, ErrorCode::not_found);
}

TEST(TracedProcess, NoSuchProcess) {
  EXPECT_EQ(TracedProcess::stop(0x3fffffff, seconds(1)).error().code, ErrorCode::not_found);
}

}  // namespace
}  // namespace duet::platform
