// Sense data (SPC-4 4.5) and the responses that carry it. Fixed format only: D_SENSE is 0.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "scsi/logical_unit_io.h"

namespace duet::scsi {

enum class SenseKey : std::uint8_t {
  no_sense = 0x0,
  not_ready = 0x2,
  medium_error = 0x3,
  hardware_error = 0x4,
  illegal_request = 0x5,
  unit_attention = 0x6,
  data_protect = 0x7,
  aborted_command = 0xb,
  miscompare = 0xe,
};

struct Sense {
  SenseKey key = SenseKey::no_sense;
  std::uint8_t asc = 0;
  std::uint8_t ascq = 0;
  std::optional<std::uint32_t> information = {};  // e.g. byte offset of a miscompare
  std::optional<std::uint16_t> cdb_byte = {};     // field pointer: the byte of the CDB at fault
  bool operator==(const Sense&) const = default;
};

// SPC-4 annex D.2.
namespace sense {
inline constexpr Sense none{};
inline constexpr Sense not_ready_transition{SenseKey::not_ready, 0x04, 0x0a};
inline constexpr Sense not_ready_no_cause{SenseKey::not_ready, 0x04, 0x00};
inline constexpr Sense write_error{SenseKey::medium_error, 0x0c, 0x00};
inline constexpr Sense unrecovered_read_error{SenseKey::medium_error, 0x11, 0x00};
inline constexpr Sense internal_target_failure{SenseKey::hardware_error, 0x44, 0x00};
inline constexpr Sense parameter_list_length_error{SenseKey::illegal_request, 0x1a, 0x00};
inline constexpr Sense invalid_opcode{SenseKey::illegal_request, 0x20, 0x00};
inline constexpr Sense lba_out_of_range{SenseKey::illegal_request, 0x21, 0x00};
inline constexpr Sense invalid_field_in_cdb{SenseKey::illegal_request, 0x24, 0x00};
inline constexpr Sense unit_not_supported{SenseKey::illegal_request, 0x25, 0x00};
inline constexpr Sense invalid_field_in_parameters{SenseKey::illegal_request, 0x26, 0x00};
inline constexpr Sense invalid_release{SenseKey::illegal_request, 0x26, 0x04};
inline constexpr Sense saving_not_supported{SenseKey::illegal_request, 0x39, 0x00};
inline constexpr Sense out_of_registrations{SenseKey::illegal_request, 0x55, 0x04};
inline constexpr Sense write_protected{SenseKey::data_protect, 0x27, 0x00};
inline constexpr Sense space_allocation_failed{SenseKey::data_protect, 0x27, 0x07};
inline constexpr Sense miscompare{SenseKey::miscompare, 0x1d, 0x00};
}  // namespace sense

inline constexpr std::size_t fixed_sense_size = 18;
std::vector<std::byte> encode_fixed(const Sense& sense);
Response check_condition(const Sense& sense);

}  // namespace duet::scsi
