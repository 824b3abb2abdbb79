#include "coredump/process_image.h"

#include <charconv>
#include <optional>

namespace duet::coredump {
namespace {

// Takes up to `end` and the character itself off the front of `text`.
std::string_view take_until(std::string_view& text, char end) {
  auto at = text.find(end);
  auto word = text.substr(0, at);
  text.remove_prefix(at == std::string_view::npos ? text.size() : at + 1);
  return word;
}

std::optional<std::uint64_t> number(std::string_view digits, int base) {
  std::uint64_t value = 0;
  auto [end, error] = std::from_chars(digits.begin(), digits.end(), value, base);
  if (error != std::errc() || end != digits.end()) return std::nullopt;
  return value;
}

// "7f12-7f34 r-xp 00001000 08:01 1234      /path with spaces"
std::optional<Mapping> parse_head(std::string_view line) {
  auto start = number(take_until(line, '-'), 16);
  auto end = number(take_until(line, ' '), 16);
  auto flags = take_until(line, ' ');
  auto offset = number(take_until(line, ' '), 16);
  auto device = take_until(line, ' ');
  auto inode = number(take_until(line, ' '), 10);
  if (!start || !end || !offset || !inode || flags.size() != 4 || device.size() < 3) {
    return std::nullopt;
  }
  if (*start >= *end || *start % page_size != 0 || *end % page_size != 0) return std::nullopt;
  while (line.starts_with(' ')) line.remove_prefix(1);
  Mapping m;
  m.start = *start;
  m.end = *end;
  m.read = flags[0] == 'r';
  m.write = flags[1] == 'w';
  m.execute = flags[2] == 'x';
  m.shared = flags[3] == 's';
  m.offset = *offset;
  m.inode = *inode;
  m.path = line;
  return m;
}

// "Anonymous:           12 kB" in bytes; 0 if it is no such line.
std::uint64_t kilobytes(std::string_view rest) {
  while (rest.starts_with(' ')) rest.remove_prefix(1);
  return number(take_until(rest, ' '), 10).value_or(0) * 1024;
}

void parse_flags(std::string_view rest, Mapping& m) {
  while (!rest.empty()) {
    auto flag = take_until(rest, ' ');
    if (flag == "dd") m.excluded = true;
    if (flag == "io") m.device = true;
  }
}

}  // namespace

std::vector<Mapping> parse_smaps(std::string_view text) {
  std::vector<Mapping> out;
  std::optional<Mapping> current;
  while (!text.empty()) {
    auto line = take_until(text, '\n');
    auto key = line.substr(0, line.find(' '));
    if (!key.ends_with(':')) {
      current = parse_head(line);
      continue;
    }
    if (!current) continue;
    auto rest = line.substr(key.size());
    if (key == "Rss:" || key == "Swap:") current->resident += kilobytes(rest);
    if (key == "Anonymous:" || key == "Swap:") current->modified += kilobytes(rest);
    if (key != "VmFlags:") continue;
    // Always the last line of a mapping.
    parse_flags(rest, *current);
    if (out.size() == max_mappings) return out;
    out.push_back(std::move(*current));
    current.reset();
  }
  return out;
}

std::uint64_t dumped_size(const Mapping& m, bool everything) {
  if (m.device || (m.excluded && !everything)) return 0;
  if (m.path == "[vdso]") return m.size();
  if (m.inode != 0) {
    // Shared memory without a name is memory; a shared file is on a disk, or it is the NVRAM.
    if (m.shared) return m.path.ends_with(" (deleted)") && m.resident != 0 ? m.size() : 0;
    if (m.modified != 0) return m.size();
    return m.elf && m.offset == 0 ? page_size : 0;
  }
  return m.resident != 0 ? m.size() : 0;
}

}  // namespace duet::coredump
