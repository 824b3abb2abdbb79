// A command that was received but not begun when its node left: what the log keeps of it, so that
// whoever replays knows it (docs/formats/log_payloads.md, "Stored request"). The decoder takes
// foreign bytes.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "iscsi/pdu.h"

namespace duet::iscsi {

struct StoredRequest {
  std::string initiator_name;
  Isid isid{};
  std::uint16_t relative_target_port = 1;
  std::uint32_t initiator_task_tag = 0;
  std::uint64_t lun_field = 0;  // as the initiator sent it
  std::array<std::uint8_t, 16> cdb{};
  bool operator==(const StoredRequest&) const = default;
};

inline constexpr std::size_t max_stored_request = 40 + 223;  // bytes

// Requires: a valid iSCSI name.
std::vector<std::byte> encode(const StoredRequest& request);
// Errors: unsupported_version, invalid.
Result<StoredRequest> decode_stored_request(Bytes bytes);

}  // namespace duet::iscsi
