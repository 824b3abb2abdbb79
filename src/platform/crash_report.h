// How an engine that crashes tells its supervisor, and waits for it: the handler of fatal signals.
// The process has closed its sockets and disks by then, and stands still until it is killed, so
// that its memory can be dumped (docs/protocols/processes.md).
#pragma once

#include <signal.h>

#include <cstdint>
#include <optional>

#include "base/bytes.h"

namespace duet::platform {

inline constexpr int crash_report_descriptor = 5;  // of the engine; the write end of a pipe

// What goes through the pipe, whole.
struct CrashReport {
  static constexpr std::uint64_t expected_magic = 0x3148535243544544;
  std::uint64_t magic = expected_magic;
  std::int32_t signal = 0;
  std::uint32_t thread = 0;
  std::uint64_t instruction = 0, stack_pointer = 0, frame_pointer = 0;  // where it happened
  siginfo_t information{};
  char assertion[512] = {};  // the ASSERT that failed; empty: none
};

// Catches SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT from now on, for this thread also when its
// stack is used up, and lets the parent process trace us. Descriptors up to that of the report stay
// open after a crash, all others are closed.
void report_crashes();

// Takes what was read from the pipe.
std::optional<CrashReport> decode_crash_report(Bytes bytes);

}  // namespace duet::platform
