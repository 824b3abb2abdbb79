#include "disk/label.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/crc32c.h"
#include "base/zero.h"

namespace duet::disk {
namespace {

constexpr std::string_view magic = "DUETDISK";
constexpr std::size_t crc_offset = 12;
constexpr std::uint8_t mailbox_flag = 0x01;
constexpr std::size_t used_size = 152;

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '-';
}

// What every label must satisfy, written or read: why not, or nothing.
std::optional<std::string> defect(const Label& label) {
  if (label.generation == 0) return "generation is 0";
  if (label.id == DiskId{}) return "disk id is zero";
  if (label.owner != NodeId(1) && label.owner != NodeId(2)) {
    return fmt::format("owner is {}, not 1 or 2", label.owner.value());
  }
  if (label.role < Role::data || label.role > Role::coredump) {
    return fmt::format("unknown role {}", static_cast<int>(label.role));
  }
  if (label.role == Role::data && label.position >= label.disks_in_pool) {
    return fmt::format("position {} in a pool of {} disks", label.position, label.disks_in_pool);
  }
  if (label.redundancy > max_redundancy) {
    return fmt::format("redundancy {} is above {}", label.redundancy, max_redundancy);
  }
  if (label.role != Role::data &&
      (label.raid_group != 0 || label.position != 0 || label.redundancy != 0)) {
    return "a disk without data has a place in a RAID group";
  }
  if (label.size < min_disk_size || label.size > max_disk_size ||
      label.size % area_block_size != 0) {
    return fmt::format("size {} is out of range or not a multiple of 4096", label.size);
  }
  if (label.pool_name.empty() || label.pool_name.size() > max_pool_name ||
      !std::ranges::all_of(label.pool_name, is_name_character)) {
    return "pool name is empty, too long or has characters other than a-z A-Z 0-9 . _ -";
  }
  return std::nullopt;
}

// CRC32C over the whole block with its own field taken as zero.
std::uint32_t block_crc(Bytes block) {
  constexpr std::array<std::byte, 4> zero{};
  auto crc = crc32c_extend(crc32c(block.first(crc_offset)), zero);
  return crc32c_extend(crc, block.subspan(crc_offset + zero.size()));
}

template <std::size_t N>
std::array<std::uint8_t, N> get_array(ByteReader& reader) {
  std::array<std::uint8_t, N> out{};
  Bytes bytes = reader.get_bytes(N);
  if (bytes.size() == N) std::memcpy(out.data(), bytes.data(), N);
  return out;
}

// The fields of version 1, behind magic, version and checksum.
Result<Label> decode_fields(ByteReader reader) {
  Label label;
  label.generation = reader.get<std::uint64_t>();
  label.cluster = ClusterId(reader.get<std::uint64_t>());
  label.id.bytes = get_array<16>(reader);
  label.owner = NodeId(reader.get<std::uint8_t>());
  label.role = static_cast<Role>(reader.get<std::uint8_t>());
  auto flags = reader.get<std::uint8_t>();
  auto name_size = reader.get<std::uint8_t>();
  label.raid_group = reader.get<std::uint16_t>();
  label.position = reader.get<std::uint16_t>();
  label.disks_in_pool = reader.get<std::uint16_t>();
  label.redundancy = reader.get<std::uint8_t>();
  bool reserved_zero = all_zero(reader.get_bytes(5));
  label.size = reader.get<std::uint64_t>();
  label.pool = get_array<16>(reader);
  Bytes name = reader.get_bytes(used_size - 88);
  Bytes rest = reader.get_bytes(reader.remaining());
  if (name_size > max_pool_name) return fail(ErrorCode::invalid, "disk label: pool name too long");
  label.pool_name.assign(reinterpret_cast<const char*>(name.data()), name_size);
  label.mailbox = (flags & mailbox_flag) != 0;
  if ((flags & ~mailbox_flag) != 0 || !reserved_zero || !all_zero(name.subspan(name_size)) ||
      !all_zero(rest)) {
    return fail(ErrorCode::invalid, "disk label: reserved bytes are not zero");
  }
  if (auto why = defect(label)) return fail(ErrorCode::invalid, "disk label: " + *why);
  return label;
}

}  // namespace

std::string_view name(Role role) {
  switch (role) {
    case Role::data:
      return "data";
    case Role::spare:
      return "spare";
    case Role::coredump:
      return "coredump";
  }
  return "?";
}

Result<std::vector<std::byte>> encode_label(const Label& label) {
  if (auto why = defect(label)) return fail(ErrorCode::invalid, "disk label: " + *why);
  ByteWriter w;
  w.put_bytes(std::as_bytes(std::span(magic)));
  w.put(label_version);
  w.put(std::uint32_t{0});
  w.put(label.generation);
  w.put(label.cluster.value());
  w.put_bytes(std::as_bytes(std::span(label.id.bytes)));
  w.put(label.owner.value());
  w.put(static_cast<std::uint8_t>(label.role));
  w.put(label.mailbox ? mailbox_flag : std::uint8_t{0});
  w.put(static_cast<std::uint8_t>(label.pool_name.size()));
  w.put(label.raid_group);
  w.put(label.position);
  w.put(label.disks_in_pool);
  w.put(label.redundancy);
  w.put_bytes(std::array<std::byte, 5>{});
  w.put(label.size);
  w.put_bytes(std::as_bytes(std::span(label.pool)));
  w.put_bytes(std::as_bytes(std::span(label.pool_name)));
  auto block = w.take();
  ASSERT(block.size() <= used_size);
  block.resize(area_block_size);
  store_le(block.data() + crc_offset, block_crc(block));
  return block;
}

Result<Label> decode_label(Bytes block) {
  if (block.size() != area_block_size) {
    return fail(ErrorCode::invalid, "disk label: not a block of 4096 bytes");
  }
  if (std::memcmp(block.data(), magic.data(), magic.size()) != 0) {
    return fail(ErrorCode::not_found, "no disk label");
  }
  ByteReader reader(block.subspan(magic.size()));
  auto version = reader.get<std::uint32_t>();
  auto crc = reader.get<std::uint32_t>();
  if (crc != block_crc(block)) return fail(ErrorCode::invalid, "disk label: checksum is wrong");
  if (version != label_version) {
    return fail(ErrorCode::unsupported_version,
                fmt::format("disk label of version {}, we speak {}", version, label_version));
  }
  return decode_fields(reader);
}

Result<ChosenLabel> choose_label(Bytes copy0, Bytes copy1) {
  auto first = decode_label(copy0);
  auto second = decode_label(copy1);
  for (const auto* copy : {&first, &second}) {
    // Another version may have begun to rewrite the label: what it says outranks our older copy.
    if (!copy->has_value() && copy->error().code == ErrorCode::unsupported_version)
      return std::unexpected(copy->error());
  }
  if (first && second) {
    if (first->generation != second->generation) {
      return ChosenLabel{first->generation > second->generation ? *first : *second, true};
    }
    if (*first != *second) {
      return fail(ErrorCode::invalid, "two different disk labels of one generation");
    }
    return ChosenLabel{*first, false};
  }
  if (first) return ChosenLabel{*first, true};
  if (second) return ChosenLabel{*second, true};
  // Damaged outranks missing: a disk that bore a label must not pass for an empty one.
  if (first.error().code == ErrorCode::invalid) return std::unexpected(first.error());
  return std::unexpected(second.error());
}

}  // namespace duet::disk
