#include "iscsi/stored_request.h"

#include <gtest/gtest.h>

namespace duet::iscsi {
namespace {

StoredRequest example() {
  return {.initiator_name = "iqn.2026-11.com.example:host",
          .isid = {0x80, 0x12, 0x34, 0x56, 0, 0},
          .relative_target_port = 1,
          .initiator_task_tag = 0x2a,
          .lun_field = 0x0001'0000'0000'0000,
          .cdb = {0x2a, 0, 0, 0, 0, 0x64, 0, 0, 1}};
}

TEST(StoredRequest, IsTheExampleOfTheDocument) {
  EXPECT_EQ(to_hex(encode(example())),
            "011c01002a0000000000000000000100"
            "2a000000006400000100000000000000"
            "8012345600000000"
            "69716e2e323032362d31312e636f6d2e6578616d706c653a686f7374");
}

TEST(StoredRequest, ComesBackAsItWas) {
  auto request = example();
  EXPECT_EQ(decode_stored_request(encode(request)).value(), request);
  request.initiator_name = "iqn." + std::string(219, 'x');
  request.relative_target_port = 0xffff;
  request.initiator_task_tag = 0xfffffffe;
  auto bytes = encode(request);
  EXPECT_EQ(bytes.size(), max_stored_request);
  EXPECT_EQ(decode_stored_request(bytes).value(), request);
}

TEST(StoredRequest, EveryRuleIsChecked) {
  auto good = encode(example());
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(decode_stored_request(Bytes(good).first(size))) << size;
  }
  auto longer = good;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(decode_stored_request(longer));
  struct Row {
    std::size_t at;
    int value;
    ErrorCode code;
  };
  for (auto row : {Row{0, 2, ErrorCode::unsupported_version}, Row{1, 27, ErrorCode::invalid},
                   Row{1, 255, ErrorCode::invalid}, Row{2, 0, ErrorCode::invalid},
                   Row{38, 1, ErrorCode::invalid}, Row{40, ' ', ErrorCode::invalid}}) {
    auto bad = good;
    bad[row.at] = static_cast<std::byte>(row.value);
    auto result = decode_stored_request(bad);
    ASSERT_FALSE(result) << row.at;
    EXPECT_EQ(result.error().code, row.code) << row.at;
  }
}

}  // namespace
}  // namespace duet::iscsi
