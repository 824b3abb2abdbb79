#include "coredump/core_layout.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <sys/procfs.h>

#include <algorithm>
#include <map>

namespace duet::coredump {
namespace {

Mapping mapping(std::uint64_t first_page, std::uint64_t pages, Mapping m = {}) {
  m.start = first_page * page_size;
  m.end = m.start + pages * page_size;
  m.read = m.write = true;
  m.resident = m.size();
  return m;
}

// Pages: 16 small memory, 64 module, 1000 other thread's stack, 2000 failing thread's, 3000
// excluded, 4000 large memory.
ProcessImage example() {
  ProcessImage image;
  image.pid = 100;
  image.uid = 7;
  image.name = "a_name_that_is_longer_than_sixteen";
  image.arguments = "engine --config file";
  image.signal = 11;
  image.auxiliary_vector.resize(32, std::byte{0xaa});
  image.threads = {{.id = 102,
                    .registers = std::vector<std::byte>(216, std::byte{1}),
                    .floating = std::vector<std::byte>(512, std::byte{2}),
                    .extended = std::vector<std::byte>(576, std::byte{3}),
                    .stack_pointer = 2001 * page_size},
                   {.id = 100,
                    .registers = std::vector<std::byte>(216, std::byte{4}),
                    .floating = {},
                    .extended = {},
                    .stack_pointer = 1000 * page_size}};
  image.mappings = {
      mapping(16, 40),
      mapping(64, 8, {.offset = 0x2000, .inode = 9, .path = "/lib/x.so", .modified = 4096}),
      mapping(1000, 300),
      mapping(2000, 3),
      mapping(3000, 1, {.excluded = true}),
      mapping(4000, 400)};
  return image;
}

// Memory in which each byte says in which page it lies.
std::size_t page_numbers(std::uint64_t address, MutableBytes out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<std::byte>((address + i) / page_size);
  }
  return out.size();
}

std::vector<std::byte> file_of(CoreStream& stream, std::size_t step) {
  std::vector<std::byte> file;
  std::vector<std::byte> buffer(step);
  while (std::size_t n = stream.next(buffer)) {
    EXPECT_TRUE(n == step || stream.done() == stream.total());
    file.insert(file.end(), buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(n));
  }
  return file;
}

template <class T>
T at(const std::vector<std::byte>& file, std::uint64_t offset) {
  T value{};
  EXPECT_LE(offset + sizeof value, file.size());
  std::memcpy(&value, file.data() + offset, sizeof value);
  return value;
}

TEST(CoreLayout, IsAnElfCoreWithAllSegments) {
  auto image = example();
  CoreStream stream(lay_out_core(image, false), page_numbers);
  auto file = file_of(stream, 1000);
  ASSERT_EQ(file.size(), stream.total());
  EXPECT_EQ(stream.unreadable(), 0U);
  auto header = at<Elf64_Ehdr>(file, 0);
  EXPECT_EQ(header.e_type, ET_CORE);
  EXPECT_EQ(header.e_machine, EM_X86_64);
  ASSERT_EQ(header.e_phnum, image.mappings.size() + 1);
  std::map<std::uint64_t, std::size_t> by_offset;
  for (std::size_t i = 0; i < image.mappings.size(); ++i) {
    auto p = at<Elf64_Phdr>(file, sizeof header + (i + 1) * sizeof(Elf64_Phdr));
    EXPECT_EQ(p.p_type, PT_LOAD);
    EXPECT_EQ(p.p_vaddr, image.mappings[i].start);
    EXPECT_EQ(p.p_memsz, image.mappings[i].size());
    EXPECT_EQ(p.p_filesz, i == 4 ? 0 : p.p_memsz);
    EXPECT_EQ(p.p_offset % page_size, 0U);
    for (std::uint64_t page = 0; page < p.p_filesz / page_size; ++page) {
      EXPECT_EQ(file[p.p_offset + page * page_size],
                static_cast<std::byte>(p.p_vaddr / page_size + page));
    }
    if (p.p_filesz != 0) by_offset[p.p_offset] = i;
  }
  // Failing thread's stack, what is small and modules, other stack, the rest.
  std::vector<std::size_t> order;
  for (auto [offset, i] : by_offset) order.push_back(i);
  EXPECT_EQ(order, (std::vector<std::size_t>{3, 0, 1, 2, 5}));
}

TEST(CoreLayout, NotesInTheOrderOfTheKernel) {
  auto layout = lay_out_core(example(), false);
  auto note = at<Elf64_Phdr>(layout.head, sizeof(Elf64_Ehdr));
  EXPECT_EQ(note.p_type, PT_NOTE);
  std::vector<std::uint32_t> types;
  std::map<std::uint32_t, std::vector<std::byte>> first;
  for (std::uint64_t o = note.p_offset; o < note.p_offset + note.p_filesz;) {
    auto n = at<Elf64_Nhdr>(layout.head, o);
    auto content =
        layout.head.begin() + static_cast<std::ptrdiff_t>(o + sizeof n + (n.n_namesz + 3) / 4 * 4);
    types.push_back(n.n_type);
    first.try_emplace(n.n_type, content, content + n.n_descsz);
    o += sizeof n + (n.n_namesz + 3) / 4 * 4 + (n.n_descsz + 3) / 4 * 4;
  }
  EXPECT_EQ(types, (std::vector<std::uint32_t>{NT_PRSTATUS, NT_PRPSINFO, NT_SIGINFO, NT_AUXV,
                                               NT_FILE, NT_FPREGSET, NT_X86_XSTATE, NT_PRSTATUS}));
  auto status = at<elf_prstatus>(first[NT_PRSTATUS], 0);
  EXPECT_EQ(status.pr_pid, 102);
  EXPECT_EQ(status.pr_cursig, 11);
  EXPECT_EQ(status.pr_reg[3], 0x0101010101010101U);
  auto process = at<elf_prpsinfo>(first[NT_PRPSINFO], 0);
  EXPECT_STREQ(process.pr_fname, "a_name_that_is_");
  EXPECT_STREQ(process.pr_psargs, "engine --config file");
  EXPECT_EQ(at<std::uint32_t>(first[NT_SIGINFO], 0), 11U);
  const auto& files = first[NT_FILE];
  EXPECT_EQ(at<std::uint64_t>(files, 0), 1U);
  EXPECT_EQ(at<std::uint64_t>(files, 16), 64 * page_size);
  EXPECT_EQ(at<std::uint64_t>(files, 24), 72 * page_size);
  EXPECT_EQ(at<std::uint64_t>(files, 32), 2U);  // pages
  EXPECT_STREQ(reinterpret_cast<const char*>(files.data() + 40), "/lib/x.so");
}

TEST(CoreLayout, EverythingIncludesWhatIsExcluded) {
  EXPECT_EQ(lay_out_core(example(), true).total, lay_out_core(example(), false).total + page_size);
}

TEST(CoreLayout, ASignalHandlersOwnInformationIsTaken) {
  auto image = example();
  image.signal_information.assign(128, std::byte{0x5a});
  auto head = lay_out_core(image, false).head;
  EXPECT_NE(std::ranges::search(head, image.signal_information).size(), 0U);
}

TEST(CoreStream, PagesThatCannotBeReadAreZero) {
  // Only odd pages can be read, each at most half at a time.
  CoreStream stream(lay_out_core(example(), false), [](std::uint64_t address, MutableBytes out) {
    if (address / page_size % 2 == 0) return std::size_t{0};
    std::size_t n = std::min<std::size_t>(out.size(), 2048 - address % 2048);
    return page_numbers(address, out.first(n));
  });
  auto file = file_of(stream, 5000);
  ASSERT_EQ(file.size(), stream.total());
  EXPECT_EQ(stream.unreadable(), (20 + 4 + 150 + 2 + 200) * page_size);
  for (std::size_t i = 0; i < 2; ++i) {
    auto p = at<Elf64_Phdr>(file, sizeof(Elf64_Ehdr) + (i + 1) * sizeof(Elf64_Phdr));
    EXPECT_EQ(file[p.p_offset + 10], std::byte{0});
    EXPECT_EQ(file[p.p_offset + page_size + page_size - 1],
              static_cast<std::byte>(p.p_vaddr / page_size + 1));
  }
}

TEST(CoreStream, AnyStepGivesTheSameFile) {
  CoreStream whole(lay_out_core(example(), true), page_numbers);
  auto expected = file_of(whole, whole.total() + 1);
  for (std::size_t step : {std::size_t{777}, std::size_t{4096}, std::size_t{1024 * 1024}}) {
    CoreStream stream(lay_out_core(example(), true), page_numbers);
    EXPECT_EQ(file_of(stream, step), expected);
  }
}

TEST(CoreLayout, NoMoreSegmentsThanElfCanCount) {
  ProcessImage image;
  image.threads.resize(1);
  image.mappings.assign(max_mappings + 1, mapping(1, 1));
  auto layout = lay_out_core(image, false);
  EXPECT_EQ(layout.segments.size(), max_mappings);
}

}  // namespace
}  // namespace duet::coredump
