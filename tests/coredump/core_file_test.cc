// A process that really crashed, from its memory to what a debugger says of the saved core file:
// dumped to a simulated disk, collected, read out as `duet core save` does.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "coredump/core_layout.h"
#include "node/core_bench.h"
#include "platform/traced_process.h"

namespace duet::node {
namespace {

// The process, from its start until it stands in its handler.
class Crash {
 public:
  explicit Crash(const char* how) {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::dup2(ends[1], STDOUT_FILENO);
      ::execl(DUET_CRASH_CHILD, DUET_CRASH_CHILD, how, nullptr);
      ::_exit(4);
    }
    ::close(ends[1]);
    FILE* output = ::fdopen(ends[0], "r");
    EXPECT_EQ(std::fscanf(output, "%u %d", &failure.thread, &failure.signal), 2) << how;
    std::fclose(output);
  }
  ~Crash() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  std::vector<std::byte> core() const {
    auto process = platform::TracedProcess::stop(pid_, seconds(10));
    EXPECT_TRUE(process) << (process ? "" : process.error().message);
    auto image = (*process)->image(failure);
    EXPECT_TRUE(image);
    coredump::CoreStream stream(
        coredump::lay_out_core(*image, false),
        [&](std::uint64_t at, MutableBytes out) { return (*process)->read_memory(at, out); });
    std::vector<std::byte> core(stream.total());
    EXPECT_EQ(stream.next(core), core.size());
    return core;
  }

  platform::Failure failure;

 private:
  pid_t pid_ = -1;
};

std::string gdb(const std::vector<std::byte>& core) {
  auto folder = std::filesystem::temp_directory_path() / ("duet_saved_" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  auto file = folder / "core";
  std::ofstream(file, std::ios::binary)
      .write(reinterpret_cast<const char*>(core.data()), static_cast<std::streamsize>(core.size()));
  const std::string line =
      "gdb -batch -nx -ex 'bt 12' " DUET_CRASH_CHILD " " + file.string() + " 2>&1 </dev/null";
  std::string out;
  FILE* pipe = ::popen(line.c_str(), "r");
  char buffer[4096];
  while (std::size_t n = std::fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, n);
  ::pclose(pipe);
  std::filesystem::remove_all(folder);
  return out;
}

class CoreFile : public testing::Test, protected CoreBench {};

TEST_F(CoreFile, OfARealCrashNamesTheFunction) {
  Dump dump;
  dump.core = Crash("null").core();
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
  const auto shown = gdb(*core);
  EXPECT_NE(shown.find("function_with_null_dereference"), std::string::npos) << shown;
}

}  // namespace
}  // namespace duet::node
