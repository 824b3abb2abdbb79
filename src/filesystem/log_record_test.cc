#include "filesystem/log_record.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace duet::filesystem {
namespace {

using nvlog::RecordKind;

Slice zeros(std::size_t size) {
  return make_buffer(size).slice();
}

TEST(LogRecord, LunCreateIsTheExampleOfTheDocument) {
  LogRecord record = encode(LunCreateRecord{LunNumber(3), 1 << 20, 0x3000000000000001, "db", "S1"});
  EXPECT_EQ(static_cast<int>(record.kind), 18);
  EXPECT_EQ(record.words, (nvlog::Words{3, 0x100000, 0x3000000000000001, 0}));
  ASSERT_EQ(record.payload.size(), 1u);
  EXPECT_EQ(to_hex(record.payload[0].bytes), "026462025331");
}

TEST(LogRecord, EachKindComesBackAsItWas) {
  LunNumber lun(1023);
  auto write = decode(encode(WriteRecord{lun, 1024, {zeros(512), zeros(1024)}}));
  ASSERT_TRUE(write);
  EXPECT_EQ(std::get<WriteRecord>(*write).offset, 1024u);
  EXPECT_EQ(std::get<WriteRecord>(*write).data.size(), 2u);
  auto zero = decode(encode(ZeroRecord{lun, 512, max_zero_length}));
  ASSERT_TRUE(zero);
  EXPECT_EQ(std::get<ZeroRecord>(*zero).length, max_zero_length);
  auto create =
      decode(encode(LunCreateRecord{lun, 8192, 5, std::string(63, 'n'), std::string(31, 's')}));
  ASSERT_TRUE(create);
  EXPECT_EQ(std::get<LunCreateRecord>(*create).serial, std::string(31, 's'));
  EXPECT_FALSE(std::get<LunCreateRecord>(*create).reserve);
  const auto reserved = encode(LunCreateRecord{lun, 8192, 5, "db", "S1", true});
  EXPECT_EQ(reserved.words[3], 1u);
  EXPECT_TRUE(std::get<LunCreateRecord>(*decode(reserved)).reserve);
  auto remove = decode(encode(LunDeleteRecord{lun}));
  ASSERT_TRUE(remove);
  EXPECT_EQ(std::get<LunDeleteRecord>(*remove).lun, lun);
  auto reservations =
      decode(encode(ReservationsRecord{lun, std::vector<std::byte>(max_reservation_state)}));
  ASSERT_TRUE(reservations);
  EXPECT_EQ(std::get<ReservationsRecord>(*reservations).state.size(), max_reservation_state);
}

TEST(LogRecord, EveryRuleIsChecked) {
  auto text = [](std::string_view s) {
    return std::vector<Slice>{copy_to_slice(std::as_bytes(std::span(s)))};
  };
  const LogRecord poison[] = {
      {RecordKind::write, {0, 0, 0, 0}, {}},
      {RecordKind::write, {0, 0, 0, 0}, {zeros(511)}},
      {RecordKind::write, {0, 0, 0, 0}, {zeros(max_write_length + 512)}},
      {RecordKind::write, {0, 7, 0, 0}, {zeros(512)}},
      {RecordKind::write, {0, ~std::uint64_t{511}, 0, 0}, {zeros(512)}},
      {RecordKind::write, {0, 0, 1, 0}, {zeros(512)}},
      {RecordKind::write, {0, 0, 0, 1}, {zeros(512)}},
      {RecordKind::write, {1024, 0, 0, 0}, {zeros(512)}},
      {RecordKind::zero, {0, 0, 0, 0}, {}},
      {RecordKind::zero, {0, 0, max_zero_length + 512, 0}, {}},
      {RecordKind::zero, {0, 0, 512, 0}, {zeros(1)}},
      {RecordKind::lun_create, {0, 0, 0, 0}, text("\2db\2S1")},
      {RecordKind::lun_create, {0, 4095, 0, 0}, text("\2db\2S1")},
      {RecordKind::lun_create, {0, 4096, 0, 0}, text("\2db\2S1x")},
      {RecordKind::lun_create, {0, 4096, 0, 0}, text("\2db\5S1")},
      {RecordKind::lun_create, {0, 4096, 0, 0}, text("\2d/\2S1")},
      {RecordKind::lun_create, {0, 4096, 0, 0}, text("\2db\2S ")},
      {RecordKind::lun_create, {0, 4096, 0, 0}, {zeros(1000)}},
      {RecordKind::lun_create, {0, 4096, 0, 0}, {}},
      {RecordKind::lun_create, {0, 4096, 0, 2}, text("\2db\2S1")},
      {RecordKind::lun_delete, {0, 1, 0, 0}, {}},
      {RecordKind::lun_delete, {0, 0, 0, 0}, {zeros(1)}},
      {RecordKind::reservations, {0, 0, 0, 0}, {zeros(max_reservation_state + 1)}},
      {RecordKind::reservations, {0, 0, 1, 0}, {}},
  };
  for (std::size_t i = 0; i < std::size(poison); ++i) {
    auto result = decode(poison[i]);
    ASSERT_FALSE(result) << i;
    EXPECT_EQ(result.error().code, ErrorCode::invalid) << i;
  }
  for (int kind : {0, 1, 2, 15, 21, 255}) {
    auto result = decode({static_cast<RecordKind>(kind), {}, {}});
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::unsupported_version) << kind;
  }
}

}  // namespace
}  // namespace duet::filesystem
