#include "coredump/process_image.h"

#include <gtest/gtest.h>

namespace duet::coredump {
namespace {

constexpr std::string_view smaps =
    "55d0a000-55d0c000 r-xp 00001000 08:01 1234                       /usr/bin/a b\n"
    "Size:                  8 kB\n"
    "Rss:                   8 kB\n"
    "Anonymous:             4 kB\n"
    "Swap:                  4 kB\n"
    "VmFlags: rd ex mr mw me dd \n"
    "7ff000000000-7ff000001000 rw-s 00000000 00:01 0\n"
    "Rss:                   0 kB\n"
    "VmFlags: rd wr io \n";

TEST(Smaps, IsParsed) {
  auto all = parse_smaps(smaps);
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0], (Mapping{.start = 0x55d0a000,
                             .end = 0x55d0c000,
                             .read = true,
                             .execute = true,
                             .offset = 0x1000,
                             .inode = 1234,
                             .path = "/usr/bin/a b",
                             .resident = 12 * 1024,
                             .modified = 8 * 1024,
                             .excluded = true}));
  EXPECT_EQ(all[1], (Mapping{.start = 0x7ff000000000,
                             .end = 0x7ff000001000,
                             .read = true,
                             .write = true,
                             .shared = true,
                             .device = true}));
}

TEST(Smaps, CutOffAnywhereGivesTheMappingsBefore) {
  auto all = parse_smaps(smaps);
  for (std::size_t n = 0; n < smaps.size(); ++n) {
    auto some = parse_smaps(smaps.substr(0, n));
    ASSERT_LE(some.size(), 2U);
    if (some.size() == 2) EXPECT_EQ(some[1].start, all[1].start);
  }
}

TEST(Smaps, WhatCannotBeUnderstoodIsLeftOut) {
  for (const char* head :
       {"", "x", "1000-2000", "1000-2000 r-xp 0 08:01 x /a", "2000-1000 r-xp 0 08:01 1 /a",
        "1001-2000 r-xp 0 08:01 1 /a", "1000-2001 r-xp 0 08:01 1 /a", "1000-2000 r-x 0 08:01 1 /a",
        "g000-2000 r-xp 0 08:01 1 /a", "1000-2000 r-xp z 08:01 1 /a", "1000-2000 r-xp 0 8 1 /a",
        "1000-11111111111111111 r-xp 0 08:01 1 /a"}) {
    EXPECT_TRUE(parse_smaps(std::string(head) + "\nVmFlags: rd\n").empty()) << head;
  }
  EXPECT_EQ(parse_smaps("1000-2000 r-xp 0 08:01 1 /a\nRss: x kB\nVmFlags: rd\n").size(), 1U);
}

TEST(Smaps, NoMoreThanTheBound) {
  std::string text;
  for (std::size_t i = 0; i < max_mappings + 1; ++i) text += "1000-2000 r-xp 0 08:01 1\nVmFlags:\n";
  EXPECT_EQ(parse_smaps(text).size(), max_mappings);
}

TEST(DumpedSize, FollowsTheKernelsFilter) {
  constexpr std::uint64_t size = 16 * page_size;
  auto of = [](Mapping m, bool everything = false) {
    m.start = 0x10000;
    m.end = m.start + size;
    return dumped_size(m, everything);
  };
  EXPECT_EQ(of({.resident = 4096}), size);
  EXPECT_EQ(of({.resident = 0}), 0U);  // never touched
  EXPECT_EQ(of({.resident = 4096, .excluded = true}), 0U);
  EXPECT_EQ(of({.resident = 4096, .excluded = true}, true), size);
  EXPECT_EQ(of({.resident = 4096, .device = true}, true), 0U);
  EXPECT_EQ(of({.path = "[vdso]"}), size);
  EXPECT_EQ(of({.inode = 1, .resident = 4096, .modified = 4096}), size);
  EXPECT_EQ(of({.inode = 1, .resident = 4096}), 0U);
  EXPECT_EQ(of({.inode = 1, .resident = 4096, .elf = true}), page_size);
  EXPECT_EQ(of({.offset = 4096, .inode = 1, .resident = 4096, .elf = true}), 0U);
  EXPECT_EQ(of({.shared = true, .inode = 1, .path = "/nvram", .resident = 4096}), 0U);
  EXPECT_EQ(of({.shared = true, .inode = 1, .path = "/memfd:x (deleted)", .resident = 4096}), size);
  EXPECT_EQ(of({.shared = true, .inode = 1, .path = "/memfd:x (deleted)"}), 0U);
}

}  // namespace
}  // namespace duet::coredump
