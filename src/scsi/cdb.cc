#include "scsi/cdb.h"

#include "scsi/opcodes.h"

namespace duet::scsi {

namespace {

template <class T>
T be(const Cdb& cdb, std::size_t at) {
  return load_be<T>(reinterpret_cast<const std::byte*>(&cdb[at]));
}

std::uint32_t be24(const Cdb& cdb, std::size_t at) {
  return static_cast<std::uint32_t>(cdb[at] << 16 | cdb[at + 1] << 8 | cdb[at + 2]);
}

Sense field_error(std::size_t byte) {
  Sense s = sense::invalid_field_in_cdb;
  s.cdb_byte = static_cast<std::uint16_t>(byte);
  return s;
}

struct Extent {
  std::uint64_t lba;
  std::uint32_t blocks;
};

// Where address and count are follows from the group code (SPC-4 4.2.5).
Extent extent(const Cdb& cdb) {
  switch (cdb[0] >> 5) {
    case 0: {
      const std::uint32_t blocks = cdb[4];
      return {be24(cdb, 1) & 0x1fffff, blocks == 0 ? 256 : blocks};
    }
    case 1:
    case 2:
      return {be<std::uint32_t>(cdb, 2), be<std::uint16_t>(cdb, 7)};
    case 4:
      return {be<std::uint64_t>(cdb, 2), be<std::uint32_t>(cdb, 10)};
    default:
      return {be<std::uint32_t>(cdb, 2), be<std::uint32_t>(cdb, 6)};
  }
}

bool force_unit_access(const Cdb& cdb) {
  return cdb[0] >> 5 != 0 && (cdb[1] & 0x08) != 0;
}

using Decoded = std::expected<Operation, Sense>;

Decoded decode_verify(const Cdb& cdb) {
  const std::uint8_t compare = cdb[1] >> 1 & 3;
  if (compare == 2) return std::unexpected(field_error(1));
  auto [lba, blocks] = extent(cdb);
  return Verify{lba, blocks, compare};
}

Decoded decode_write_same(const Cdb& cdb) {
  const bool sixteen = cdb[0] == 0x93;
  auto [lba, blocks] = extent(cdb);
  return WriteSame{lba, blocks, (cdb[1] & 0x08) != 0, sixteen && (cdb[1] & 0x01) != 0};
}

Decoded decode_maintenance_in(const Cdb& cdb) {
  if ((cdb[1] & 0x1f) == 0x0a) {
    const int format = cdb[1] >> 5;
    if (format > 1) return std::unexpected(field_error(1));
    return ReportTargetPortGroups{format == 1, be<std::uint32_t>(cdb, 6)};
  }
  return ReportSupportedOpcodes{(cdb[2] & 0x80) != 0, static_cast<std::uint8_t>(cdb[2] & 7), cdb[3],
                                be<std::uint16_t>(cdb, 4), be<std::uint32_t>(cdb, 6)};
}

Decoded decode_known(const Cdb& cdb) {
  const auto [lba, blocks] = extent(cdb);
  const bool fua = force_unit_access(cdb);
  switch (cdb[0]) {
    case 0x00:
      return TestUnitReady{};
    case 0x03:
      return RequestSense{cdb[4]};
    case 0x08:
    case 0x28:
    case 0x88:
    case 0xa8:
      return Read{lba, blocks, fua};
    case 0x0a:
    case 0x2a:
    case 0x8a:
    case 0xaa:
      return Write{lba, blocks, fua};
    case 0x12:
      return Inquiry{(cdb[1] & 1) != 0, cdb[2], be<std::uint16_t>(cdb, 3)};
    case 0x15:
      return ModeSelect{false, (cdb[1] & 0x10) != 0, (cdb[1] & 1) != 0, cdb[4]};
    case 0x16:
      return Reserve6{};
    case 0x17:
      return Release6{};
    case 0x1a:
      return ModeSense{false,
                       (cdb[1] & 8) != 0,
                       static_cast<std::uint8_t>(cdb[2] >> 6),
                       static_cast<std::uint8_t>(cdb[2] & 0x3f),
                       cdb[3],
                       cdb[4]};
    case 0x1b:
      return StartStopUnit{static_cast<std::uint8_t>(cdb[4] >> 4), (cdb[4] & 4) != 0,
                           (cdb[4] & 2) != 0, (cdb[4] & 1) != 0};
    case 0x25:
      return ReadCapacity10{};
    case 0x2e:
    case 0x8e:
    case 0xae:
      return WriteAndVerify{lba, blocks, (cdb[1] & 2) != 0};
    case 0x2f:
    case 0x8f:
    case 0xaf:
      return decode_verify(cdb);
    case 0x34:
    case 0x90:
      return Prefetch{lba, blocks};
    case 0x35:
    case 0x91:
      return SynchronizeCache{lba, blocks};
    case 0x41:
    case 0x93:
      return decode_write_same(cdb);
    case 0x42:
      return Unmap{be<std::uint16_t>(cdb, 7)};
    case 0x55:
      return ModeSelect{true, (cdb[1] & 0x10) != 0, (cdb[1] & 1) != 0, be<std::uint16_t>(cdb, 7)};
    case 0x5a:
      return ModeSense{true,
                       (cdb[1] & 8) != 0,
                       static_cast<std::uint8_t>(cdb[2] >> 6),
                       static_cast<std::uint8_t>(cdb[2] & 0x3f),
                       cdb[3],
                       be<std::uint16_t>(cdb, 7)};
    case 0x5e:
      return PersistentReserveIn{static_cast<PersistentReserveIn::ServiceAction>(cdb[1] & 0x1f),
                                 be<std::uint16_t>(cdb, 7)};
    case 0x5f:
      return PersistentReserveOut{static_cast<PersistentReserveOut::ServiceAction>(cdb[1] & 0x1f),
                                  static_cast<std::uint8_t>(cdb[2] >> 4),
                                  static_cast<std::uint8_t>(cdb[2] & 0x0f),
                                  be<std::uint32_t>(cdb, 5)};
    case 0x89:
      return CompareAndWrite{lba, cdb[13], fua};
    case 0x8b:
      return OrWrite{lba, blocks, fua};
    case 0x9e:
      if ((cdb[1] & 0x1f) == 0x10) return ReadCapacity16{be<std::uint32_t>(cdb, 10)};
      return GetLbaStatus{lba, be<std::uint32_t>(cdb, 10)};
    case 0xa0:
      return ReportLuns{cdb[2], be<std::uint32_t>(cdb, 6)};
    case 0xa3:
      return decode_maintenance_in(cdb);
    default:
      UNREACHABLE();  // every operation code of the table is above
  }
}

}  // namespace

Decoded decode_cdb(const Cdb& cdb) {
  const Opcode* opcode = find_opcode(cdb);
  if (!opcode) {
    // A known operation code with an unknown service action is a bad field (SPC-4 4.2.5.2).
    for (const auto& o : opcodes())
      if (o.code == cdb[0]) return std::unexpected(field_error(1));
    return std::unexpected(sense::invalid_opcode);
  }
  for (std::size_t i = 1; i < opcode->length; ++i)
    if (cdb[i] & ~opcode->usage[i]) return std::unexpected(field_error(i));
  return decode_known(cdb);
}

namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};

}  // namespace

std::uint64_t data_out_wanted(const Operation& operation, std::uint32_t block_size) {
  const auto bytes = [&](std::uint64_t blocks) { return blocks * block_size; };
  return std::visit(
      Overloaded{
          [&](const Write& o) { return bytes(o.blocks); },
          [&](const WriteAndVerify& o) { return bytes(o.blocks); },
          [&](const OrWrite& o) { return bytes(o.blocks); },
          [&](const CompareAndWrite& o) { return bytes(2 * std::uint64_t{o.blocks}); },
          [&](const WriteSame& o) { return bytes(o.no_data_out ? 0 : 1); },
          [&](const Verify& o) {
            return bytes(o.compare == 1 ? o.blocks : o.compare == 3 && o.blocks > 0 ? 1 : 0);
          },
          [&](const Unmap& o) { return std::uint64_t{o.length}; },
          [&](const ModeSelect& o) { return std::uint64_t{o.length}; },
          [&](const PersistentReserveOut& o) { return std::uint64_t{o.length}; },
          [](const auto&) { return std::uint64_t{0}; },
      },
      operation);
}

AccessClass access_class(const Operation& operation) {
  constexpr auto always = AccessClass::always;
  constexpr auto reads = AccessClass::reads;
  constexpr auto writes = AccessClass::writes;
  constexpr auto own = AccessClass::reservation;
  return std::visit(Overloaded{
                        [](const TestUnitReady&) { return always; },
                        [](const RequestSense&) { return always; },
                        [](const Inquiry&) { return always; },
                        [](const ReportLuns&) { return always; },
                        [](const ReadCapacity10&) { return always; },
                        [](const ReadCapacity16&) { return always; },
                        [](const ReportTargetPortGroups&) { return always; },
                        [](const PersistentReserveIn&) { return always; },
                        [](const StartStopUnit& o) {
                          return o.start && o.power_condition == 0 ? always : writes;
                        },
                        [](const Read&) { return reads; },
                        [](const Verify&) { return reads; },
                        [](const Prefetch&) { return reads; },
                        [](const GetLbaStatus&) { return reads; },
                        [](const ModeSense&) { return writes; },
                        [](const ModeSelect&) { return writes; },
                        [](const ReportSupportedOpcodes&) { return writes; },
                        [](const Write&) { return writes; },
                        [](const WriteAndVerify&) { return writes; },
                        [](const OrWrite&) { return writes; },
                        [](const CompareAndWrite&) { return writes; },
                        [](const WriteSame&) { return writes; },
                        [](const Unmap&) { return writes; },
                        [](const SynchronizeCache&) { return writes; },
                        [](const Reserve6&) { return own; },
                        [](const Release6&) { return own; },
                        [](const PersistentReserveOut&) { return own; },
                    },
                    operation);
}

}  // namespace duet::scsi
