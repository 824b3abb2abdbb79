// Mode parameters (SPC-4 7.5, SBC-3 6.5): caching page with a truthful WCE, control page. Nothing
// is saved; only WCE may change, where the unit allows it.
#pragma once

#include <expected>
#include <vector>

#include "scsi/logical_unit.h"

namespace duet::scsi {

struct ModeParameters {
  bool write_cache = false;
};

std::expected<std::vector<std::byte>, Sense> mode_sense(const ModeSense& request,
                                                        const UnitConfig& config,
                                                        const ModeParameters& current);
// The parameters after the command.
std::expected<ModeParameters, Sense> mode_select(const ModeSelect& request, Bytes list,
                                                 const UnitConfig& config,
                                                 const ModeParameters& current);

}  // namespace duet::scsi
