// What became of a request, as a protocol server tells its client
// (docs/protocols/file_operations.md has the NFS status for each), and Attempt<T>: a value, or why
// not.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

#include "base/result.h"

namespace duet::files {

enum class Outcome : std::uint8_t {
  ok = 0,
  exists,
  no_entry,
  not_directory,
  is_directory,
  not_empty,
  stale,     // the handle's file is gone
  no_space,  // the pool is full, or a directory or the attributes of a file are
  quota,
  name_too_long,
  too_many_links,
  too_big,       // beyond the largest file
  cross_volume,  // a link or a move from one volume to another
  read_only,     // a snapshot
  not_sync,      // setattr: the guard is not the time of the last change
  invalid,
  io,          // damaged: the message names what
  busy,        // something is not in memory, or memory is full: nothing was changed, run it again
  not_served,  // no answer to the client: whoever serves the identity next will answer
};
std::string_view name(Outcome outcome);

struct Failure {
  Outcome outcome;
  std::string message;  // for people; may be empty
};

template <class T>
class [[nodiscard]] Attempt : public std::expected<T, Failure> {
 public:
  using std::expected<T, Failure>::expected;
};

inline std::unexpected<Failure> refuse(Outcome outcome, std::string message = {}) {
  return std::unexpected(Failure{outcome, std::move(message)});
}
// What an outcome means to those who tell errors, not to clients.
ErrorCode error_code(Outcome outcome);
// What an error of a View means.
std::unexpected<Failure> refuse(const Error& error);

}  // namespace duet::files
