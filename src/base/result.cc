#include "base/result.h"

namespace duet {

std::string_view name(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid:
      return "invalid";
    case ErrorCode::unsupported_version:
      return "unsupported version";
    case ErrorCode::not_found:
      return "not found";
    case ErrorCode::already_exists:
      return "already exists";
    case ErrorCode::no_space:
      return "no space";
    case ErrorCode::busy:
      return "busy";
    case ErrorCode::io_error:
      return "I/O error";
    case ErrorCode::timed_out:
      return "timed out";
    case ErrorCode::disconnected:
      return "disconnected";
    case ErrorCode::reservation_conflict:
      return "reservation conflict";
    case ErrorCode::cancelled:
      return "cancelled";
    case ErrorCode::refused:
      return "refused";
  }
  return "?";
}

}  // namespace duet
