#include "nvlog/position.h"

namespace duet::nvlog {

std::array<std::byte, position_size> encode(const LogPosition& position) {
  std::array<std::byte, position_size> out;
  store_le(&out[0], position.epoch.value());
  store_le(&out[8], position.sequence.value());
  store_le(&out[16], position.offset);
  store_le(&out[24], position.lap);
  return out;
}

Result<LogPosition> decode_position(Bytes bytes) {
  if (bytes.size() != position_size) return fail(ErrorCode::invalid, "log position: wrong size");
  LogPosition position{Epoch(load_le<std::uint64_t>(&bytes[0])),
                       LogSequence(load_le<std::uint64_t>(&bytes[8])),
                       load_le<std::uint64_t>(&bytes[16]), load_le<std::uint64_t>(&bytes[24])};
  if (position.offset % record_alignment != 0)
    return fail(ErrorCode::invalid, "log position: offset is not a multiple of 64");
  if (position.sequence.value() >= sequence_limit || position.lap >= lap_limit)
    return fail(ErrorCode::invalid, "log position: sequence or lap beyond its limit");
  return position;
}

}  // namespace duet::nvlog
