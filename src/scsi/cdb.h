// Commands as types, decoded from their CDBs (SPC-4, SBC-3). Whatever sets a reserved bit or a
// feature we lack (protection information, NACA, ...) is refused here; what depends on the unit
// (its size, its limits, whether it is thin) is for the unit to check. Block addresses and counts
// are in blocks.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <variant>

#include "scsi/sense.h"

namespace duet::scsi {

using Cdb = std::array<std::uint8_t, 16>;

struct TestUnitReady {};
struct RequestSense {
  std::uint32_t allocation;
};
struct Inquiry {
  bool vital_product_data;
  std::uint8_t page;
  std::uint32_t allocation;
};
struct ReportLuns {
  std::uint8_t select;
  std::uint32_t allocation;
};
struct ModeSense {
  bool ten;  // MODE SENSE(10)
  bool no_block_descriptor;
  std::uint8_t control;  // 0 current, 1 changeable, 2 default, 3 saved
  std::uint8_t page, subpage;
  std::uint32_t allocation;
};
struct ModeSelect {
  bool ten;
  bool page_format, save;
  std::uint32_t length;
};
struct StartStopUnit {
  std::uint8_t power_condition;
  bool no_flush, eject, start;
};
struct ReadCapacity10 {};
struct ReadCapacity16 {
  std::uint32_t allocation;
};
struct Read {
  std::uint64_t lba;
  std::uint32_t blocks;
  bool force_unit_access;
};
struct Write {
  std::uint64_t lba;
  std::uint32_t blocks;
  bool force_unit_access;
};
struct WriteAndVerify {
  std::uint64_t lba;
  std::uint32_t blocks;
  bool compare;  // BYTCHK
};
struct Verify {
  std::uint64_t lba;
  std::uint32_t blocks;
  std::uint8_t
      compare;  // BYTCHK: 0 medium only, 1 with the data-out, 3 each with one block of data-out
};
struct OrWrite {
  std::uint64_t lba;
  std::uint32_t blocks;
  bool force_unit_access;
};
struct CompareAndWrite {
  std::uint64_t lba;
  std::uint32_t blocks;  // at most 255
  bool force_unit_access;
};
struct WriteSame {
  std::uint64_t lba;
  std::uint64_t blocks;
  bool unmap;
  bool no_data_out;  // NDOB: zeros
};
struct Unmap {
  std::uint32_t length;
};
struct SynchronizeCache {
  std::uint64_t lba;
  std::uint64_t blocks;  // 0: to the end
};
struct Prefetch {
  std::uint64_t lba;
  std::uint64_t blocks;  // 0: to the end
};
struct GetLbaStatus {
  std::uint64_t lba;
  std::uint32_t allocation;
};
struct Reserve6 {};
struct Release6 {};
struct PersistentReserveIn {
  enum class ServiceAction : std::uint8_t {
    read_keys,
    read_reservation,
    report_capabilities,
    read_full_status
  };
  ServiceAction action;
  std::uint32_t allocation;
};
struct PersistentReserveOut {
  enum class ServiceAction : std::uint8_t {
    register_key = 0,
    reserve = 1,
    release = 2,
    clear = 3,
    preempt = 4,
    preempt_and_abort = 5,
    register_and_ignore = 6,
    register_and_move = 7,
  };
  ServiceAction action;
  std::uint8_t scope, type;  // as sent
  std::uint32_t length;
};
struct ReportSupportedOpcodes {
  bool timeouts;         // RCTD
  std::uint8_t options;  // 0 all, 1 opcode, 2 opcode with service action, 3 either
  std::uint8_t opcode;
  std::uint16_t service_action;
  std::uint32_t allocation;
};
struct ReportTargetPortGroups {
  bool extended_header;
  std::uint32_t allocation;
};

using Operation =
    std::variant<TestUnitReady, RequestSense, Inquiry, ReportLuns, ModeSense, ModeSelect,
                 StartStopUnit, ReadCapacity10, ReadCapacity16, Read, Write, WriteAndVerify, Verify,
                 OrWrite, CompareAndWrite, WriteSame, Unmap, SynchronizeCache, Prefetch,
                 GetLbaStatus, Reserve6, Release6, PersistentReserveIn, PersistentReserveOut,
                 ReportSupportedOpcodes, ReportTargetPortGroups>;

std::expected<Operation, Sense> decode_cdb(const Cdb& cdb);

// Data-out bytes the CDB asks for, for the transport's residual and the unit's checks.
std::uint64_t data_out_wanted(const Operation& operation, std::uint32_t block_size);

// Which reservations keep a command out (SPC-4 table 64, SBC-3 table 13;
// docs/formats/reservations.md).
enum class AccessClass : std::uint8_t {
  always,       // allowed whatever is reserved
  reads,        // conflicts with exclusive access
  writes,       // conflicts with write exclusive and exclusive access
  reservation,  // PERSISTENT RESERVE OUT, RESERVE, RELEASE: have their own rules
};
AccessClass access_class(const Operation& operation);

}  // namespace duet::scsi
