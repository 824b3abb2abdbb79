// What a unit says about itself: INQUIRY (SPC-4 6.6) and vital product data (SPC-4 7.8, SBC-3 6.6).
#pragma once

#include <optional>
#include <vector>

#include "scsi/logical_unit.h"

namespace duet::scsi {

std::vector<std::byte> standard_inquiry(const UnitConfig& config);
// Of a number without a unit: peripheral qualifier 3, type 1Fh.
std::vector<std::byte> absent_inquiry();
// Nothing for a page we do not have. `port`: relative target port the question came through.
std::optional<std::vector<std::byte>> vital_product_data(std::uint8_t page,
                                                         const UnitConfig& config,
                                                         std::uint16_t port);
// Largest COMPARE AND WRITE in blocks (block limits VPD).
std::uint32_t max_compare_and_write(const UnitConfig& config);

}  // namespace duet::scsi
