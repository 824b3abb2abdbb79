#include "platform/crash_report.h"

#include <gtest/gtest.h>

#include <cstring>
#include <span>
#include <vector>

#include "platform/elf_build_id.h"

namespace duet::platform {
namespace {

TEST(CrashReport, OnlyAWholeReportIsTaken) {
  CrashReport report;
  report.signal = 11;
  report.thread = 7;
  std::memset(report.assertion, 'x', sizeof report.assertion);
  auto bytes = std::as_bytes(std::span(&report, 1));
  auto read = decode_crash_report(bytes);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->signal, 11);
  EXPECT_EQ(read->thread, 7u);
  EXPECT_EQ(std::strlen(read->assertion), sizeof report.assertion - 1) << "ends within";
  EXPECT_FALSE(decode_crash_report(bytes.first(bytes.size() - 1)));
  EXPECT_FALSE(decode_crash_report({}));
  std::vector<std::byte> longer(bytes.begin(), bytes.end());
  longer.push_back({});
  EXPECT_FALSE(decode_crash_report(longer));
  report.magic ^= 1;
  EXPECT_FALSE(decode_crash_report(std::as_bytes(std::span(&report, 1))));
}

TEST(ElfBuildId, OfOurselvesAndOfNothing) {
  auto id = elf_build_id("/proc/self/exe");
  EXPECT_EQ(id.find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_EQ(id.size() % 2, 0u);
  EXPECT_EQ(elf_build_id("/nonexistent"), "");
  EXPECT_EQ(elf_build_id("/proc/self/cmdline"), "");
}

}  // namespace
}  // namespace duet::platform
