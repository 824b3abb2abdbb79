// What a session is, as a plain value: with it another process can go on where this one stopped, at
// any moment when no command is under way. No sockets, no pointers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "iscsi/negotiation.h"
#include "iscsi/pdu.h"
#include "scsi/logical_unit_io.h"

namespace duet::iscsi {

struct SessionState {
  std::string initiator_name;
  std::string target_name;  // empty for discovery
  bool discovery = false;
  Isid isid{};
  std::uint16_t tsih = 0;
  std::uint16_t connection_id = 0;
  std::uint16_t portal_group_tag = 1;
  std::uint16_t relative_target_port = 1;
  Parameters parameters;
  std::uint32_t exp_cmd_sn = 0;
  std::uint32_t stat_sn = 0;  // of the next answer that carries status
  std::uint32_t next_target_transfer_tag = 1;
  bool operator==(const SessionState&) const = default;

  scsi::Nexus nexus() const { return {initiator_name, isid, relative_target_port}; }
};

// As bytes (docs/formats/session_state.md). Requires: a session in its full feature phase.
std::vector<std::byte> encode(const SessionState& session);
// Foreign bytes. Errors: unsupported_version, invalid (the message names the field).
Result<SessionState> decode_session_state(Bytes bytes);

}  // namespace duet::iscsi
