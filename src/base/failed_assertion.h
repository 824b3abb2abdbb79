// What the handler of SIGABRT may want to know.
#pragma once

namespace duet {

// Of the first ASSERT that failed: "expression at file:line"; null: none has. Async-signal-safe.
const char* last_failed_assertion();

}  // namespace duet
