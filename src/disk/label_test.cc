#include "disk/label.h"

#include <gtest/gtest.h>

#include <functional>

#include "base/crc32c.h"

namespace duet::disk {
namespace {

constexpr std::size_t crc_offset = 12;

// The worked example of docs/formats/disk_label.md.
Label example() {
  Label label;
  label.generation = 3;
  label.cluster = ClusterId(0x1122334455664d2a);
  for (std::size_t i = 0; i < 16; ++i) {
    label.id.bytes[i] = static_cast<std::uint8_t>(0xa0 + i);
    label.pool[i] = static_cast<std::uint8_t>(0xc0 + i);
  }
  label.owner = NodeId(1);
  label.role = Role::data;
  label.mailbox = true;
  label.raid_group = 0;
  label.position = 2;
  label.disks_in_pool = 4;
  label.redundancy = 1;
  label.size = 64 * 1024 * 1024;
  label.pool_name = "red0";
  return label;
}

constexpr std::string_view golden =
    "445545544449534b010000003ace50b003000000000000002a4d665544332211"
    "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf01010104000002000400010000000000"
    "0000000400000000c0c1c2c3c4c5c6c7c8c9cacbcccdcecf7265643000000000";

std::vector<std::byte> encoded(const Label& label) {
  auto block = encode_label(label);
  EXPECT_TRUE(block.has_value()) << (block ? "" : block.error().message);
  return block ? *block : std::vector<std::byte>(area_block_size);
}

void fix_crc(std::vector<std::byte>& block) {
  store_le<std::uint32_t>(block.data() + crc_offset, 0);
  store_le(block.data() + crc_offset, crc32c(block));
}

TEST(Label, IsTheWorkedExampleByteForByte) {
  auto block = encoded(example());
  ASSERT_EQ(block.size(), area_block_size);
  EXPECT_EQ(to_hex(Bytes(block).first(96)), golden);
  for (std::size_t i = 96; i < block.size(); ++i) ASSERT_EQ(block[i], std::byte{0}) << i;
}

TEST(Label, DecodeUndoesEncode) {
  auto label = example();
  EXPECT_EQ(*decode_label(encoded(label)), label);
  label.role = Role::spare;
  label.mailbox = false;
  label.position = 0;
  label.redundancy = 0;
  label.pool_name = std::string(max_pool_name, 'x');
  label.owner = NodeId(2);
  EXPECT_EQ(*decode_label(encoded(label)), label);
}

// Zeros where the redundancy is now.
TEST(Label, OneOfBeforeTheRedundancyHasNone) {
  auto label = example();
  label.redundancy = 0;
  auto block = encoded(label);
  EXPECT_EQ(to_hex(Bytes(block).first(96)),
            "445545544449534b01000000b14e39cd03000000000000002a4d665544332211"
            "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf01010104000002000400000000000000"
            "0000000400000000c0c1c2c3c4c5c6c7c8c9cacbcccdcecf7265643000000000");
  EXPECT_EQ(*decode_label(block), label);
}

TEST(Label, RedundancyIsBoundedAndOfDataDisksOnly) {
  auto label = example();
  for (std::uint8_t n = 0; n <= max_redundancy; ++n) {
    label.redundancy = n;
    EXPECT_TRUE(encode_label(label));
  }
  label.redundancy = max_redundancy + 1;
  EXPECT_FALSE(encode_label(label));
  label.redundancy = 1;
  label.role = Role::spare;
  label.mailbox = false;
  label.position = 0;
  EXPECT_FALSE(encode_label(label));
}

TEST(Label, EveryFlippedBitIsNoticed) {
  auto block = encoded(example());
  for (std::size_t i = 0; i < block.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      auto flipped = block;
      flipped[i] ^= static_cast<std::byte>(1 << bit);
      ASSERT_FALSE(decode_label(flipped).has_value()) << "byte " << i << " bit " << bit;
    }
  }
}

TEST(Label, RulesHoldWhenWritingAndWhenReading) {
  struct Case {
    const char* what;
    std::function<void(Label&)> spoil;
  };
  const Case cases[] = {
      {"generation", [](Label& l) { l.generation = 0; }},
      {"disk id", [](Label& l) { l.id = {}; }},
      {"no owner", [](Label& l) { l.owner = no_node; }},
      {"owner 3", [](Label& l) { l.owner = NodeId(3); }},
      {"role 0", [](Label& l) { l.role = static_cast<Role>(0); }},
      {"role 4", [](Label& l) { l.role = static_cast<Role>(4); }},
      {"position", [](Label& l) { l.position = l.disks_in_pool; }},
      {"spare with position", [](Label& l) { l.role = Role::spare; }},
      {"spare with group",
       [](Label& l) { l.role = Role::spare, l.position = 0, l.raid_group = 1; }},
      {"small", [](Label& l) { l.size = min_disk_size - area_block_size; }},
      {"large", [](Label& l) { l.size = max_disk_size + area_block_size; }},
      {"unaligned", [](Label& l) { l.size += 512; }},
      {"unnamed", [](Label& l) { l.pool_name.clear(); }},
      {"long name", [](Label& l) { l.pool_name = std::string(max_pool_name + 1, 'x'); }},
      {"name with slash", [](Label& l) { l.pool_name = "a/b"; }},
  };
  for (const auto& c : cases) {
    auto label = example();
    c.spoil(label);
    auto block = encode_label(label);
    ASSERT_FALSE(block.has_value()) << c.what;
    EXPECT_EQ(block.error().code, ErrorCode::invalid) << c.what;
  }
}

TEST(Label, FieldsOutOfTheirRangeAreRefusedThoughTheChecksumIsRight) {
  struct Case {
    const char* what;
    std::size_t offset;
    std::uint8_t value;
  };
  const Case cases[] = {
      {"owner", 48, 0},      {"role", 49, 9},        {"flags", 50, 0x81},
      {"name size", 51, 64}, {"name size 0", 51, 0}, {"name cut", 51, 3},
      {"redundancy", 58, 3}, {"reserved", 59, 1},    {"reserved", 63, 1},
      {"size", 64, 1},       {"name", 88, '/'},      {"behind the name", 151, 'x'},
      {"tail", 152, 1},      {"last byte", 4095, 1}};
  for (const auto& c : cases) {
    auto block = encoded(example());
    block[c.offset] = static_cast<std::byte>(c.value);
    fix_crc(block);
    auto label = decode_label(block);
    ASSERT_FALSE(label.has_value()) << c.what;
    EXPECT_EQ(label.error().code, ErrorCode::invalid) << c.what;
  }
}

TEST(Label, WrongSizeBlankAndOtherVersion) {
  std::vector<std::byte> block(area_block_size);
  EXPECT_EQ(decode_label(block).error().code, ErrorCode::not_found);
  EXPECT_EQ(decode_label(Bytes(block).first(512)).error().code, ErrorCode::invalid);
  EXPECT_EQ(decode_label({}).error().code, ErrorCode::invalid);
  block = encoded(example());
  block[8] = std::byte{2};
  EXPECT_EQ(decode_label(block).error().code, ErrorCode::invalid);
  fix_crc(block);
  EXPECT_EQ(decode_label(block).error().code, ErrorCode::unsupported_version);
}

// Every pair of what the two copies can be: the decision table of docs/formats/disk_label.md.
TEST(ChooseLabel, DecisionTable) {
  auto old_label = example();
  auto new_label = example();
  new_label.generation = 4;
  new_label.owner = NodeId(2);
  auto conflicting = new_label;
  conflicting.owner = NodeId(1);
  auto other_version = encoded(old_label);
  other_version[8] = std::byte{2};
  fix_crc(other_version);
  auto damaged = encoded(new_label);
  damaged[100] ^= std::byte{1};
  const std::vector<std::byte> blank(area_block_size);
  const auto old_block = encoded(old_label);
  const auto new_block = encoded(new_label);

  struct Case {
    const char* what;
    std::vector<std::byte> copy0, copy1;
    const Label* chosen;  // nullptr: error
    bool repair;
    ErrorCode error;
  };
  const ErrorCode none{};
  const Case cases[] = {
      {"same", new_block, new_block, &new_label, false, none},
      {"first newer", new_block, old_block, &new_label, true, none},
      {"second newer", old_block, new_block, &new_label, true, none},
      {"second torn", old_block, damaged, &old_label, true, none},
      {"first torn", damaged, old_block, &old_label, true, none},
      {"second blank", new_block, blank, &new_label, true, none},
      {"first blank", blank, new_block, &new_label, true, none},
      {"both blank", blank, blank, nullptr, false, ErrorCode::not_found},
      {"damaged, blank", damaged, blank, nullptr, false, ErrorCode::invalid},
      {"blank, damaged", blank, damaged, nullptr, false, ErrorCode::invalid},
      {"both damaged", damaged, damaged, nullptr, false, ErrorCode::invalid},
      {"conflict", new_block, encoded(conflicting), nullptr, false, ErrorCode::invalid},
      {"first foreign", other_version, new_block, nullptr, false, ErrorCode::unsupported_version},
      {"second foreign", new_block, other_version, nullptr, false, ErrorCode::unsupported_version},
      {"foreign, torn", other_version, damaged, nullptr, false, ErrorCode::unsupported_version},
      {"torn, foreign", damaged, other_version, nullptr, false, ErrorCode::unsupported_version},
      {"foreign, blank", other_version, blank, nullptr, false, ErrorCode::unsupported_version},
      {"blank, foreign", blank, other_version, nullptr, false, ErrorCode::unsupported_version},
      {"both foreign", other_version, other_version, nullptr, false,
       ErrorCode::unsupported_version},
  };
  for (const auto& c : cases) {
    auto result = choose_label(c.copy0, c.copy1);
    ASSERT_EQ(result.has_value(), c.chosen != nullptr) << c.what;
    if (c.chosen) {
      EXPECT_EQ(result->label, *c.chosen) << c.what;
      EXPECT_EQ(result->repair, c.repair) << c.what;
    } else {
      EXPECT_EQ(result.error().code, c.error) << c.what;
    }
  }
}

// Power is lost after any byte of rewriting both copies in order: old or new, never neither.
TEST(ChooseLabel, ARewriteTornAnywhereLeavesOneLabel) {
  auto old_label = example();
  auto new_label = example();
  new_label.generation = 4;
  new_label.position = 1;
  auto old_block = encoded(old_label);
  auto new_block = encoded(new_label);
  auto torn = [&](std::size_t written) {
    auto block = old_block;
    std::copy_n(new_block.begin(), written, block.begin());
    return block;
  };
  for (std::size_t written = 0; written <= area_block_size; ++written) {
    auto during_first = choose_label(torn(written), old_block);
    ASSERT_TRUE(during_first.has_value());
    EXPECT_TRUE(during_first->label == old_label || during_first->label == new_label);
    auto during_second = choose_label(new_block, torn(written));
    ASSERT_TRUE(during_second.has_value());
    EXPECT_EQ(during_second->label, new_label);
  }
}

}  // namespace
}  // namespace duet::disk
