// ASSERT: our own invariants, on in every build. A failed one aborts the process: for an engine
// that is a panic, and a panic is a takeover, which we are good at. Never on bytes of a client, the
// partner, a disk or the log: a poison record would be replayed and take the second node down too.
#pragma once

namespace duet {

[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);

// Called first, if set. A simulator of whole nodes throws from it: there, the process that failed
// is an object. Programs that are shipped never set one.
using AssertionHandler = void (*)(const char* expression, const char* file, int line);
void set_assertion_handler(AssertionHandler handler);

}  // namespace duet

#define ASSERT(expression) \
  ((expression) ? static_cast<void>(0) : ::duet::assertion_failed(#expression, __FILE__, __LINE__))

#define UNREACHABLE() ::duet::assertion_failed("unreachable", __FILE__, __LINE__)
