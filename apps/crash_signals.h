// A crash is a takeover: the process ends at once, by its signal. Libraries that libfabric brings
// along (PSM) catch the signals of a crash as soon as they are loaded, print a backtrace from the
// broken process, and then exit() through every destructor.
#pragma once

#include <csignal>

namespace duet {

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define DUET_KEEP_CRASH_HANDLERS  // the sanitizer's report is wanted
#endif
#endif

// Call it once the fabric is open: PSM may be loaded that late.
inline void crash_at_once() {
#ifndef DUET_KEEP_CRASH_HANDLERS
  for (int number : {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV}) std::signal(number, SIG_DFL);
#endif
}

}  // namespace duet
