#include "platform/elf_build_id.h"

#include <elf.h>
#include <fmt/format.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <vector>

namespace duet::platform {
namespace {

constexpr std::size_t max_segments = 64;
constexpr std::uint64_t max_notes = 64 * 1024;

std::string build_id_in(const std::vector<char>& notes) {
  std::size_t at = 0;
  auto aligned = [](std::size_t n) { return (n + 3) & ~std::size_t{3}; };
  while (notes.size() - at >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr header;
    std::memcpy(&header, notes.data() + at, sizeof header);
    at += sizeof header;
    auto name = aligned(header.n_namesz), contents = aligned(header.n_descsz);
    if (name > notes.size() - at || contents > notes.size() - at - name) break;
    bool found = header.n_type == NT_GNU_BUILD_ID && header.n_namesz == 4 &&
                 std::memcmp(notes.data() + at, "GNU", 4) == 0;
    if (found) {
      std::string id;
      for (std::size_t i = 0; i < header.n_descsz; ++i) {
        id += fmt::format("{:02x}", static_cast<unsigned char>(notes[at + name + i]));
      }
      return id;
    }
    at += name + contents;
  }
  return {};
}

}  // namespace

std::string elf_build_id(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  Elf64_Ehdr header{};
  if (!file.read(reinterpret_cast<char*>(&header), sizeof header)) return {};
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return {};
  for (std::size_t i = 0; i < header.e_phnum && i < max_segments; ++i) {
    Elf64_Phdr segment{};
    file.seekg(static_cast<std::streamoff>(header.e_phoff + i * sizeof segment));
    if (!file.read(reinterpret_cast<char*>(&segment), sizeof segment)) return {};
    if (segment.p_type != PT_NOTE || segment.p_filesz > max_notes) continue;
    std::vector<char> notes(segment.p_filesz);
    file.seekg(static_cast<std::streamoff>(segment.p_offset));
    if (!file.read(notes.data(), static_cast<std::streamsize>(notes.size()))) return {};
    if (auto id = build_id_in(notes); !id.empty()) return id;
  }
  return {};
}

}  // namespace duet::platform
