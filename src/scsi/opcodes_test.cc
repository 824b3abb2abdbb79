#include "scsi/opcodes.h"

#include <gtest/gtest.h>

#include <set>

#include "scsi/logical_unit_fixture.h"
#include "scsi/target_device.h"

namespace duet::scsi {
namespace {

ReportSupportedOpcodes one(std::uint8_t options, const Opcode& o, bool timeouts = false) {
  return {timeouts, options, o.code, o.service_action.value_or(0), 65535};
}

TEST(Opcodes, EveryCommandDecodesAndNoReservedBitDoes) {
  for (const auto& o : opcodes()) {
    Cdb cdb{o.code};
    if (o.service_action) cdb[1] = *o.service_action;
    EXPECT_TRUE(decode_cdb(cdb)) << int(o.code);
    for (std::size_t i = 1; i < o.length; ++i)
      for (int bit = 0; bit < 8; ++bit) {
        if (o.usage[i] & 1 << bit) continue;
        Cdb bad = cdb;
        bad[i] = static_cast<std::uint8_t>(bad[i] | 1 << bit);
        const auto decoded = decode_cdb(bad);
        ASSERT_FALSE(decoded) << int(o.code) << " byte " << i << " bit " << bit;
        EXPECT_EQ(decoded.error().asc, 0x24);
        EXPECT_EQ(decoded.error().cdb_byte, i);
      }
  }
}

TEST(Opcodes, UnknownOnesAreRefused) {
  std::set<std::uint8_t> known;
  for (const auto& o : opcodes()) known.insert(o.code);
  for (int code = 0; code < 256; ++code) {
    if (known.contains(static_cast<std::uint8_t>(code))) continue;
    EXPECT_EQ(decode_cdb(Cdb{static_cast<std::uint8_t>(code)}).error(), sense::invalid_opcode);
  }
  for (int action = 4; action < 32; ++action)  // PERSISTENT RESERVE IN has four
    EXPECT_EQ(decode_cdb(Cdb{0x5e, static_cast<std::uint8_t>(action)}).error().asc, 0x24);
}

// What iscsi-test-cu cannot check: it takes the INVALID FIELD IN CDB it provokes for "not
// implemented".
TEST(Opcodes, OneCommandReports) {
  for (const auto& o : opcodes()) {
    const auto plain = supported_opcodes(one(1, o), true);
    const auto with_action = supported_opcodes(one(2, o), true);
    if (o.service_action)
      EXPECT_EQ(plain.error(), sense::invalid_field_in_cdb);
    else
      EXPECT_EQ(with_action.error(), sense::invalid_field_in_cdb);
    for (const auto& data :
         {o.service_action ? with_action : plain, supported_opcodes(one(3, o), true)}) {
      ASSERT_TRUE(data);
      EXPECT_EQ((*data)[1], std::byte{3});
      EXPECT_EQ(load_be<std::uint16_t>(&(*data)[2]), o.length);
      EXPECT_EQ((*data)[4], std::byte{o.code});
      EXPECT_EQ(data->size(), 4u + o.length);
    }
    EXPECT_EQ(supported_opcodes(one(3, o, true), true)->size(), 4u + o.length + 12);
    EXPECT_EQ((*supported_opcodes(one(3, o), false))[1], o.thin_only ? std::byte{1} : std::byte{3});
  }
  EXPECT_EQ((*supported_opcodes({false, 1, 0x04, 0, 255}, true))[1], std::byte{1});
  EXPECT_EQ((*supported_opcodes({false, 2, 0x5e, 9, 255}, true))[1], std::byte{1});
  EXPECT_FALSE(supported_opcodes({false, 4, 0x00, 0, 255}, true));
  EXPECT_EQ(supported_opcodes({true, 0, 0, 0, 65535}, true)->size(), 4 + 20 * opcodes().size());
}

TEST(TargetDevice, LunField) {
  for (std::uint16_t lun : {0, 1, 255, 256, 16383})
    EXPECT_EQ(decode_lun(encode_lun(LunNumber(lun))), LunNumber(lun));
  EXPECT_FALSE(decode_lun(1));
  EXPECT_FALSE(decode_lun(0xc100000000000000));
  EXPECT_FALSE(decode_lun(0x0100000000000000));
}

TEST(TargetDevice, AbsentUnitsAndChangedLuns) {
  TargetDevice device;
  const auto red = UnitFixture::nexus("red");
  std::uint64_t tag = 0;
  const auto run = [&](std::uint16_t lun, std::vector<std::uint8_t> cdb) {
    Command command;
    command.tag = CommandTag(++tag);
    command.nexus = red;
    std::ranges::copy(cdb, command.cdb.begin());
    Actions actions;
    device.on_command(LunNumber(lun), std::move(command), actions);
    return std::get<Respond>(actions.at(0)).response;
  };
  device.add(LunNumber(0), LogicalUnit(UnitFixture::default_config(), {}));
  run(0, {0x00});
  EXPECT_EQ(run(0, {0x00}).status, StatusCode::good);
  EXPECT_EQ(sense_code(run(5, {0x00})), 0x052500u);
  EXPECT_EQ(joined(run(5, {0x12, 0, 0, 0, 36}).data_in)[0], std::byte{0x7f});
  EXPECT_EQ(joined(run(5, {0x03, 0, 0, 0, 18}).data_in)[12], std::byte{0x25});
  device.add(LunNumber(300), LogicalUnit(UnitFixture::default_config(), {}));
  EXPECT_EQ(sense_code(run(0, {0x00})), 0x063f0eu);
  device.remove(LunNumber(300));
  const auto list = joined(run(0, {0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0}).data_in);
  EXPECT_EQ(list.size(), 16u);
  EXPECT_EQ(run(0, {0x00}).status, StatusCode::good);  // REPORT LUNS took the attention
}

}  // namespace
}  // namespace duet::scsi
