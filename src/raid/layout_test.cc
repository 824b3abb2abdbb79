// Rules and bytes of the layout (docs/formats/raid_layout.md).
#include "raid/layout.h"

#include <gtest/gtest.h>

#include <functional>

namespace duet::raid {
namespace {

DiskId id(std::uint8_t number) {
  DiskId disk;
  disk.bytes.fill(number);
  return disk;
}

// The worked example: 2 data + P, P being rebuilt, and a spare.
Layout example() {
  Layout layout;
  layout.groups.push_back({Protection::single, 0x1000});
  layout.members.push_back({id(0xa0), 0, false, 0, MemberState::in_sync, 0});
  layout.members.push_back({id(0xa1), 0, false, 1, MemberState::in_sync, 0});
  layout.members.push_back({id(0xa2), 0, true, 0, MemberState::rebuilding, 0x800});
  layout.spares.push_back(id(0xb0));
  return layout;
}

std::string hex(const Layout& layout) {
  ByteWriter out;
  encode(layout, out);
  return to_hex(out.take());
}
std::string times(int count, const std::string& text) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

const std::string golden =
    "0100010003000100"                                      //
    "01000000000000000010000000000000"                      //
    + times(16, "a0") + "00000000000000000000000000000000"  //
    + times(16, "a1") + "00000001000000000000000000000000"  //
    + times(16, "a2") + "00000100020000000008000000000000"  //
    + times(16, "b0")                                       //
    + "0000000000000000";

// The same with m2 kept out by order, and a disk that joins.
const std::string golden_growing =
    "0100010003000100"                                      //
    "01000000000000000010000000000000"                      //
    + times(16, "a0") + "00000000000000000000000000000000"  //
    + times(16, "a1") + "00000001000000000000000000000000"  //
    + times(16, "a2") + "00000100010100000000000000000000"  //
    + times(16, "b0")                                       //
    + "0100000000000000"                                    //
    + times(16, "b1") + "0000000000000000";

TEST(RaidLayout, GoldenBytes) {
  EXPECT_EQ(hex(example()), golden);
  ByteWriter out;
  encode(example(), out);
  const auto bytes = out.take();
  ByteReader in(bytes);
  const auto decoded = decode_layout(in);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(*decoded, example());
  EXPECT_EQ(in.remaining(), 0u);
}

Layout growing() {
  Layout layout = example();
  layout.members[2].state = MemberState::failed;
  layout.members[2].rebuilt = 0;
  layout.members[2].kept_out = true;
  layout.joining.push_back({id(0xb1), 0});
  return layout;
}

TEST(RaidLayout, WhatIsGrowingAndKeptOut) {
  EXPECT_EQ(hex(growing()), golden_growing);
  ByteWriter out;
  encode(growing(), out);
  const auto bytes = out.take();
  ByteReader in(bytes);
  const auto decoded = decode_layout(in);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(*decoded, growing());
}

TEST(RaidLayout, EveryPrefixIsRefused) {
  ByteWriter out;
  encode(growing(), out);
  const auto bytes = out.take();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    ByteReader in(Bytes(bytes).first(size));
    EXPECT_EQ(decode_layout(in).error().code, ErrorCode::invalid);
  }
}

TEST(RaidLayout, EachRuleIsKept) {
  using Change = std::function<void(Layout&)>;
  const std::pair<const char*, Change> changes[] = {
      {"no groups", [](Layout& l) { l.groups.clear(); }},
      {"kept out, and in", [](Layout& l) { l.members[0].kept_out = true; }},
      {"joins nothing", [](Layout& l) { l.joining.push_back({id(0xb1), 1}); }},
      {"joins twice", [](Layout& l) { l.joining.push_back({id(0xb0), 0}); }},
      {"too many join", [](Layout& l) { l.joining.resize(max_joining + 1); }},
      {"too many groups", [](Layout& l) { l.groups.resize(max_groups + 1, l.groups[0]); }},
      {"too many members", [](Layout& l) { l.members.resize(max_members + 1, l.members[0]); }},
      {"too many spares", [](Layout& l) { l.spares.resize(max_spares + 1, id(9)); }},
      {"protection", [](Layout& l) { l.groups[0].protection = static_cast<Protection>(3); }},
      {"nothing but the fixed blocks", [](Layout& l) { l.groups[0].blocks = reserved_blocks; }},
      {"too large", [](Layout& l) { l.groups[0].blocks = max_member_blocks + 1; }},
      {"no data", [](Layout& l) { l.members.erase(l.members.begin(), l.members.begin() + 2); }},
      {"a gap", [](Layout& l) { l.members.erase(l.members.begin()); }},
      {"no parity", [](Layout& l) { l.members.pop_back(); }},
      {"other group", [](Layout& l) { l.members[1].group = 1; }},
      {"role taken", [](Layout& l) { l.members[1].role = 0; }},
      {"role too high", [](Layout& l) { l.members[1].role = max_group_data; }},
      {"second parity", [](Layout& l) { l.members[2].role = 1; }},
      {"state", [](Layout& l) { l.members[1].state = static_cast<MemberState>(3); }},
      {"rebuilt but in sync", [](Layout& l) { l.members[1].rebuilt = 1; }},
      {"rebuilt beyond the end", [](Layout& l) { l.members[2].rebuilt = 0x1001; }},
      {"two out of single", [](Layout& l) { l.members[1].state = MemberState::failed; }},
      {"a disk twice", [](Layout& l) { l.members[1].disk = l.members[0].disk; }},
      {"a spare that is a member", [](Layout& l) { l.spares[0] = l.members[0].disk; }},
  };
  ASSERT_TRUE(check(example()));
  for (const auto& [name, change] : changes) {
    Layout layout = example();
    change(layout);
    EXPECT_EQ(check(layout).error().code, ErrorCode::invalid) << name;
    if (layout.members.size() > max_members || layout.groups.size() > max_groups) continue;
    ByteWriter out;
    encode(layout, out);
    const auto bytes = out.take();
    ByteReader in(bytes);
    EXPECT_FALSE(decode_layout(in)) << name;
  }
}

}  // namespace
}  // namespace duet::raid
