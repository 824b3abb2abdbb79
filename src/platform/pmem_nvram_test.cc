#include "platform/pmem_nvram.h"

#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace duet::platform {
namespace {

constexpr std::uint64_t size = 256 * 1024;

// A folder of its own below `parent`, removed at the end.
struct Folder {
  explicit Folder(std::string parent) : path(parent + "/duet_nvram_XXXXXX") {
    EXPECT_NE(mkdtemp(path.data()), nullptr);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string file() const { return path + "/nvram"; }
  std::string path;
};

bool in_memory(const std::string& path) {
  struct statfs s;
  return statfs(path.c_str(), &s) == 0 && s.f_type == TMPFS_MAGIC;
}

struct DiskFile : testing::Test {
  void SetUp() override {
    if (in_memory(folder.path)) GTEST_SKIP() << "the current folder is in memory";
  }
  Folder folder{std::filesystem::current_path().string()};
};

TEST_F(DiskFile, IsPersistentAndKeepsItsBytes) {
  for (int round = 0; round < 2; ++round) {
    auto nvram = PmemNvram::open(folder.file(), size, false);
    ASSERT_TRUE(nvram.has_value()) << nvram.error().message;
    EXPECT_TRUE((*nvram)->persistent());
    ASSERT_EQ((*nvram)->region().size(), size);
    std::byte expected = round == 0 ? std::byte{0} : std::byte{42};
    EXPECT_EQ((*nvram)->region()[5000], expected);
    std::byte value{42};
    (*nvram)->copy((*nvram)->region().subspan(5000, 1), Bytes(&value, 1));
  }
}

TEST_F(DiskFile, ForcedPersistentMemoryIsNotBelieved) {
  setenv("PMEM_IS_PMEM_FORCE", "1", 1);
  auto nvram = PmemNvram::open(folder.file(), size, false);
  unsetenv("PMEM_IS_PMEM_FORCE");
  ASSERT_TRUE(nvram.has_value());
  EXPECT_EQ((*nvram)->medium(), NvramMedium::disk_file);
}

TEST_F(DiskFile, OneAtATime) {
  auto first = PmemNvram::open(folder.file(), size, false);
  ASSERT_TRUE(first.has_value());
  auto second = PmemNvram::open(folder.file(), size, false);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::busy);
  first->reset();
  EXPECT_TRUE(PmemNvram::open(folder.file(), size, false).has_value());
}

TEST_F(DiskFile, AnotherSizeIsRefusedAndLeftAlone) {
  ASSERT_TRUE(PmemNvram::open(folder.file(), size, false).has_value());
  auto larger = PmemNvram::open(folder.file(), 2 * size, false);
  ASSERT_FALSE(larger.has_value());
  EXPECT_EQ(larger.error().code, ErrorCode::refused);
  EXPECT_EQ(std::filesystem::file_size(folder.file()), size);
  auto any = PmemNvram::open(folder.file(), 0, false);
  ASSERT_TRUE(any.has_value());
  EXPECT_EQ((*any)->region().size(), size);
}

TEST_F(DiskFile, BadSizesAndPaths) {
  EXPECT_EQ(PmemNvram::open(folder.file(), 4097, false).error().code, ErrorCode::invalid);
  EXPECT_EQ(PmemNvram::open(folder.file(), 0, false).error().code, ErrorCode::invalid);
  EXPECT_EQ(PmemNvram::open(folder.path, size, false).error().code, ErrorCode::io_error);
  EXPECT_EQ(PmemNvram::open(folder.path + "/no/such", size, false).error().code,
            ErrorCode::io_error);
  std::ofstream(folder.file()) << "not a multiple of a page";
  EXPECT_EQ(PmemNvram::open(folder.file(), 0, false).error().code, ErrorCode::refused);
}

TEST_F(DiskFile, CopyOutsideOfTheRegionIsAPanic) {
  auto nvram = PmemNvram::open(folder.file(), size, false);
  ASSERT_TRUE(nvram.has_value());
  std::byte value{};
  EXPECT_DEATH((*nvram)->copy(MutableBytes(&value, 1), Bytes(&value, 1)), "");
}

TEST(SharedMemory, OnlyByExplicitConfiguration) {
  if (!in_memory("/dev/shm")) GTEST_SKIP() << "no /dev/shm";
  Folder folder("/dev/shm");
  auto refused = PmemNvram::open(folder.file(), size, false);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::refused);
  EXPECT_NE(refused.error().message.find("allow_volatile"), std::string::npos);
  auto nvram = PmemNvram::open(folder.file(), size, true);
  ASSERT_TRUE(nvram.has_value()) << nvram.error().message;
  EXPECT_FALSE((*nvram)->persistent());
  EXPECT_NE((*nvram)->description().find("lost with power"), std::string::npos);
  std::byte value{7};
  (*nvram)->copy((*nvram)->region().last(1), Bytes(&value, 1));
  nvram->reset();
  nvram = PmemNvram::open(folder.file(), size, true);
  EXPECT_EQ((*nvram)->region().back(), value);
}

}  // namespace
}  // namespace duet::platform
