// The commands that move identities: takeover, giveback, halt, cancel. Each has an answer or an end
// in bounded time; the job itself goes on in the daemon, whatever becomes of the command.
#pragma once

#include "arguments.h"
#include "target.h"

namespace duet::cli {

int takeover(const Target& target, const Arguments& arguments);
int giveback(const Target& target, const Arguments& arguments);
int halt(const Target& target, const Arguments& arguments);
int cancel(const Target& target, const Arguments& arguments);
int panic(const Target& target, const Arguments& arguments);

}  // namespace duet::cli
