// For tests: a process (crash_child) that really crashes, and what gdb says of its core.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "platform/traced_process.h"

namespace duet::platform {

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
  pid_t pid() const { return pid_; }
  Failure failure;

 private:
  pid_t pid_ = -1;
};

// What gdb says of a core file with these bytes.
inline std::string gdb(const std::vector<std::byte>& core, std::string_view command) {
  auto folder = std::filesystem::temp_directory_path() / ("duet_core_" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  auto file = folder / "core";
  std::ofstream(file, std::ios::binary)
      .write(reinterpret_cast<const char*>(core.data()), static_cast<std::streamsize>(core.size()));
  std::string line = "gdb -batch -nx -ex '" + std::string(command) + "' " DUET_CRASH_CHILD " " +
                     file.string() + " 2>&1 </dev/null";
  std::string out;
  FILE* pipe = ::popen(line.c_str(), "r");
  char buffer[4096];
  while (std::size_t n = std::fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, n);
  ::pclose(pipe);
  std::filesystem::remove_all(folder);
  return out;
}

}  // namespace duet::platform
