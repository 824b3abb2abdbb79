// A process that really crashed, from its memory to what a debugger says of the saved core file:
// dumped to a simulated disk, collected, read out as `duet core save` does.
#include <gtest/gtest.h>

#include <cstdlib>

#include "coredump/core_layout.h"
#include "node/core_bench.h"
#include "platform/crash_fixture.h"

namespace duet::node {
namespace {

std::vector<std::byte> core_of(const platform::Crash& crash) {
  auto process = platform::TracedProcess::stop(crash.pid(), seconds(10));
  EXPECT_TRUE(process) << (process ? "" : process.error().message);
  auto image = (*process)->image(crash.failure);
  EXPECT_TRUE(image);
  coredump::CoreStream stream(
      coredump::lay_out_core(*image, false),
      [&](std::uint64_t at, MutableBytes out) { return (*process)->read_memory(at, out); });
  std::vector<std::byte> core(stream.total());
  EXPECT_EQ(stream.next(core), core.size());
  return core;
}

class CoreFile : public testing::Test, protected CoreBench {};

TEST_F(CoreFile, OfARealCrashNamesTheFunction) {
  Dump dump;
  dump.core = core_of(platform::Crash("null"));
  config->core_space_percent = 90;
  put_dump(dump);
  serve_and_collect();
  ASSERT_TRUE(wait_until_said("coredump.saved")) << said("coredump.dropped");
  auto core = saved(id);
  ASSERT_TRUE(core) << core.error().message;
  EXPECT_TRUE(*core == dump.core);
  if (std::system("gdb --version >/dev/null 2>&1") != 0) {
    GTEST_SKIP() << "gdb is not installed: the core was saved, but not read";
  }
  const auto shown = platform::gdb(*core, "bt 12");
  EXPECT_NE(shown.find("function_with_null_dereference"), std::string::npos) << shown;
}

}  // namespace
}  // namespace duet::node
