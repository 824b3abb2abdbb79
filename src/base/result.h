// Result<T>: a value or an Error. A code exists only if some caller acts on it; the message is for
// people and names the thing and the cure.
#pragma once

#include <expected>
#include <string>
#include <string_view>

namespace duet {

enum class ErrorCode {
  invalid,              // foreign bytes or arguments that break their format
  unsupported_version,  // well-formed, but of a version we do not speak
  not_found,
  already_exists,
  no_space,
  busy,      // a bound was reached; try later
  io_error,  // the medium or the operating system failed
  timed_out,
  disconnected,  // the path to the thing is gone; the operation may or may not have happened
  reservation_conflict,  // a SCSI reservation keeps us out: we are fenced
  cancelled,
  refused,  // possible, but not allowed now; the message says why
};

std::string_view name(ErrorCode code);

struct Error {
  ErrorCode code;
  std::string message;
};

template <class T>
class [[nodiscard]] Result : public std::expected<T, Error> {
 public:
  using std::expected<T, Error>::expected;
};

using Status = Result<void>;

inline std::unexpected<Error> fail(ErrorCode code, std::string message) {
  return std::unexpected(Error{code, std::move(message)});
}

}  // namespace duet
