// The commands we support: length, service action and usage map of each CDB. One table for decoding
// (a bit outside the map is refused) and for REPORT SUPPORTED OPERATION CODES (SPC-4 6.35).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "scsi/cdb.h"

namespace duet::scsi {

struct Opcode {
  std::uint8_t code;
  std::optional<std::uint8_t> service_action;
  std::uint8_t length;  // of the CDB
  bool thin_only;       // only units that can unmap have it
  Cdb usage;            // usage[0] is the operation code, as in the parameter data
};

std::span<const Opcode> opcodes();
const Opcode* find_opcode(const Cdb& cdb);

// The parameter data, or the sense for options that do not fit the operation code.
std::expected<std::vector<std::byte>, Sense> supported_opcodes(
    const ReportSupportedOpcodes& request, bool thin);

}  // namespace duet::scsi
