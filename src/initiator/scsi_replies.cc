#include "initiator/scsi_replies.h"

#include <fmt/format.h>

#include <algorithm>

namespace duet::initiator {
namespace {

std::unexpected<Error> malformed(std::string_view what) {
  return fail(ErrorCode::invalid, fmt::format("malformed reply of the disk: {}", what));
}

std::uint8_t byte_at(Bytes bytes, std::size_t i) {
  return std::to_integer<std::uint8_t>(bytes[i]);
}

}  // namespace

Result<Capacity> parse_read_capacity16(Bytes reply) {
  if (reply.size() < 12) return malformed("READ CAPACITY(16) too short");
  auto last = load_be<std::uint64_t>(reply.data());
  auto block_size = load_be<std::uint32_t>(reply.data() + 8);
  if (block_size != 512 && block_size != 4096) {
    return malformed(fmt::format("block size {} is neither 512 nor 4096", block_size));
  }
  // Keeps every later sum of offsets far from overflow.
  constexpr std::uint64_t max_size = std::uint64_t{1} << 56;
  if (last >= max_size / block_size) return malformed("capacity of more than 2^56 bytes");
  return Capacity{(last + 1) * block_size, block_size};
}

Result<std::string> parse_unit_serial_number(Bytes page) {
  if (page.size() < 4 || byte_at(page, 1) != 0x80) return malformed("VPD page 80h");
  std::size_t length = load_be<std::uint16_t>(page.data() + 2);
  if (length > page.size() - 4) return malformed("VPD page 80h cut off");
  std::string serial(reinterpret_cast<const char*>(page.data() + 4), length);
  // Padded with blanks on either side; other characters than printable ones are nobody's serial.
  auto begin = serial.find_first_not_of(' ');
  if (begin == std::string::npos) return malformed("empty serial number");
  serial = serial.substr(begin, serial.find_last_not_of(' ') - begin + 1);
  if (!std::ranges::all_of(serial, [](char c) { return c >= 0x20 && c < 0x7f; })) {
    return malformed("serial number with unprintable characters");
  }
  return serial;
}

Result<std::uint32_t> parse_max_transfer_length(Bytes page) {
  if (page.size() < 12 || byte_at(page, 1) != 0xb0) return malformed("VPD page B0h");
  return load_be<std::uint32_t>(page.data() + 8);
}

Result<bool> parse_write_cache_enabled(Bytes reply) {
  if (reply.size() < 4) return malformed("MODE SENSE(6) too short");
  std::size_t page = 4 + std::size_t{byte_at(reply, 3)};  // behind the block descriptors
  if (page + 3 > reply.size()) return malformed("MODE SENSE(6) without caching page");
  if ((byte_at(reply, page) & 0x3f) != 0x08) return malformed("MODE SENSE(6) with another page");
  return (byte_at(reply, page + 2) & 0x04) != 0;
}

Result<std::vector<LunNumber>> parse_report_luns(Bytes reply) {
  if (reply.size() < 8) return malformed("REPORT LUNS too short");
  std::size_t length = load_be<std::uint32_t>(reply.data());
  Bytes entries = reply.subspan(8);
  if (length % 8 != 0 || length > entries.size()) return malformed("REPORT LUNS cut off");
  constexpr std::size_t max_luns = 256;
  if (length / 8 > max_luns) return malformed("more than 256 LUNs");
  std::vector<LunNumber> luns;
  for (entries = entries.first(length); !entries.empty(); entries = entries.subspan(8)) {
    auto address = load_be<std::uint16_t>(entries.data());
    bool single_level =
        std::ranges::all_of(entries.subspan(2, 6), [](std::byte b) { return b == std::byte{0}; });
    auto method = address >> 14;
    if (!single_level || method > 1) continue;
    auto lun = static_cast<std::uint16_t>(address & 0x3fff);
    if (method == 0 && lun > 255) continue;  // a bus other than 0
    luns.push_back(LunNumber(lun));
  }
  return luns;
}

Result<ports::RegisteredKeys> parse_read_keys(Bytes reply) {
  if (reply.size() < 8) return malformed("READ KEYS too short");
  ports::RegisteredKeys keys{.generation = load_be<std::uint32_t>(reply.data()), .keys = {}};
  std::size_t length = load_be<std::uint32_t>(reply.data() + 4);
  Bytes list = reply.subspan(8);
  if (length % 8 != 0 || length > list.size()) return malformed("READ KEYS cut off");
  for (list = list.first(length); !list.empty(); list = list.subspan(8)) {
    keys.keys.push_back(ReservationKey(load_be<std::uint64_t>(list.data())));
  }
  return keys;
}

Result<ports::ReservationState> parse_read_reservation(Bytes reply) {
  if (reply.size() < 8) return malformed("READ RESERVATION too short");
  ports::ReservationState state;
  state.generation = load_be<std::uint32_t>(reply.data());
  auto length = load_be<std::uint32_t>(reply.data() + 4);
  if (length == 0) return state;
  if (length != 16 || reply.size() < 24) return malformed("READ RESERVATION cut off");
  state.reserved = true;
  state.holder = ReservationKey(load_be<std::uint64_t>(reply.data() + 8));
  auto type = byte_at(reply, 21) & 0x0f;
  switch (type) {
    case 1:
    case 3:
    case 5:
    case 6:
    case 7:
    case 8:
      state.type = static_cast<ports::ReservationType>(type);
      return state;
    default:
      return malformed(fmt::format("reservation of type {}", type));
  }
}

}  // namespace duet::initiator
