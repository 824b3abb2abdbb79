#include "files/outcome.h"

namespace duet::files {

std::string_view name(Outcome outcome) {
  switch (outcome) {
    case Outcome::ok:
      return "ok";
    case Outcome::exists:
      return "exists";
    case Outcome::no_entry:
      return "no entry";
    case Outcome::not_directory:
      return "not a directory";
    case Outcome::is_directory:
      return "is a directory";
    case Outcome::not_empty:
      return "not empty";
    case Outcome::stale:
      return "stale";
    case Outcome::no_space:
      return "no space";
    case Outcome::quota:
      return "quota";
    case Outcome::name_too_long:
      return "name too long";
    case Outcome::too_many_links:
      return "too many links";
    case Outcome::too_big:
      return "too big";
    case Outcome::cross_volume:
      return "cross volume";
    case Outcome::read_only:
      return "read only";
    case Outcome::not_sync:
      return "not sync";
    case Outcome::invalid:
      return "invalid";
    case Outcome::io:
      return "I/O";
    case Outcome::busy:
      return "busy";
    case Outcome::not_served:
      return "not served";
  }
  return "?";
}

ErrorCode error_code(Outcome outcome) {
  switch (outcome) {
    case Outcome::no_entry:
    case Outcome::not_directory:
      return ErrorCode::not_found;
    case Outcome::no_space:
    case Outcome::quota:
      return ErrorCode::no_space;
    case Outcome::not_served:
      return ErrorCode::cancelled;
    case Outcome::busy:
      return ErrorCode::busy;
    case Outcome::io:
    case Outcome::stale:
      return ErrorCode::io_error;
    default:
      return ErrorCode::refused;
  }
}

std::unexpected<Failure> refuse(const Error& error) {
  switch (error.code) {
    case ErrorCode::busy:
      return refuse(Outcome::busy, error.message);
    case ErrorCode::not_found:
      return refuse(Outcome::stale, error.message);
    case ErrorCode::no_space:
      return refuse(Outcome::no_space, error.message);
    case ErrorCode::refused:
      return refuse(Outcome::quota, error.message);
    case ErrorCode::invalid:
    case ErrorCode::unsupported_version:
    case ErrorCode::already_exists:
    case ErrorCode::io_error:
    case ErrorCode::timed_out:
    case ErrorCode::disconnected:
    case ErrorCode::reservation_conflict:
    case ErrorCode::cancelled:
      return refuse(Outcome::io, error.message);
  }
  return refuse(Outcome::io, error.message);
}

}  // namespace duet::files
