#include "coredump/header.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/crc32c.h"

namespace duet::coredump {
namespace {

constexpr std::string_view magic = "DUETCORE";
constexpr std::size_t crc_offset = 12;
constexpr std::size_t used_size = 116;

// What every header must satisfy, written or read: why not, or nothing.
std::optional<std::string> defect(const Header& h) {
  if (h.sequence == 0) return "sequence is 0";
  if (h.disk == DiskId{}) return "disk id is zero";
  if (h.attribute < Attribute::active || h.attribute > Attribute::inactive) {
    return fmt::format("unknown attribute {}", static_cast<int>(h.attribute));
  }
  if (h.node != NodeId(1) && h.node != NodeId(2)) {
    return fmt::format("node is {}, not 1 or 2", h.node.value());
  }
  if (h.abort_reason > AbortReason::cancelled ||
      (h.abort_reason == AbortReason::none) != (h.attribute != Attribute::aborted)) {
    return "a reason to abort goes with aborted, and only with it";
  }
  if (h.limit < milliseconds(1) || h.limit > max_limit) return "limit is out of range";
  if (h.epoch == Epoch(0)) return "epoch is 0";
  if (h.boot_nonce == BootNonce(0)) return "boot nonce is 0";
  if (h.room < min_room || h.room > disk::max_disk_size - disk::data_offset ||
      h.room % disk::area_block_size != 0) {
    return fmt::format("room {} is out of range or not a multiple of 4096", h.room);
  }
  if (h.stored > h.room || h.stored % disk::area_block_size != 0) {
    return fmt::format("stored {} is above the room or not a multiple of 4096", h.stored);
  }
  if (h.core_done > h.core_total) return "more of the core is done than there is";
  if (h.elapsed < milliseconds(0) || h.elapsed.count() > 0xffffffffLL) {
    return "elapsed is out of range";
  }
  return std::nullopt;
}

std::uint32_t block_crc(Bytes block) {
  constexpr std::array<std::byte, 4> zero{};
  auto crc = crc32c_extend(crc32c(block.first(crc_offset)), zero);
  return crc32c_extend(crc, block.subspan(crc_offset + zero.size()));
}

bool is_zero(Bytes bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

// The fields of version 1, behind magic, version and checksum.
Result<Header> decode_fields(ByteReader reader) {
  Header h;
  h.sequence = reader.get<std::uint64_t>();
  h.cluster = ClusterId(reader.get<std::uint64_t>());
  Bytes id = reader.get_bytes(h.disk.bytes.size());
  std::memcpy(h.disk.bytes.data(), id.data(), id.size());
  h.attribute = static_cast<Attribute>(reader.get<std::uint8_t>());
  h.node = NodeId(reader.get<std::uint8_t>());
  h.abort_reason = static_cast<AbortReason>(reader.get<std::uint8_t>());
  auto reserved = reader.get<std::uint8_t>();
  h.limit = milliseconds(reader.get<std::uint32_t>());
  h.epoch = Epoch(reader.get<std::uint64_t>());
  h.boot_nonce = BootNonce(reader.get<std::uint64_t>());
  auto start = reader.get<std::uint64_t>();
  h.room = reader.get<std::uint64_t>();
  h.stored = reader.get<std::uint64_t>();
  h.core_done = reader.get<std::uint64_t>();
  h.core_total = reader.get<std::uint64_t>();
  h.elapsed = milliseconds(reader.get<std::uint32_t>());
  if (reserved != 0 || !is_zero(reader.get_bytes(reader.remaining()))) {
    return fail(ErrorCode::invalid, "coredump header: reserved bytes are not zero");
  }
  if (start != disk::data_offset) {
    return fail(ErrorCode::invalid, fmt::format("coredump header: start is {}", start));
  }
  if (auto why = defect(h)) return fail(ErrorCode::invalid, "coredump header: " + *why);
  return h;
}

}  // namespace

std::string_view name(Attribute attribute) {
  switch (attribute) {
    case Attribute::active:
      return "active";
    case Attribute::completed:
      return "completed";
    case Attribute::aborted:
      return "aborted";
    case Attribute::inactive:
      return "inactive";
  }
  return "?";
}

std::string_view name(AbortReason reason) {
  switch (reason) {
    case AbortReason::none:
      return "none";
    case AbortReason::time_limit:
      return "time limit";
    case AbortReason::disk_failed:
      return "disk failed";
    case AbortReason::disk_full:
      return "disk full";
    case AbortReason::process_gone:
      return "process gone";
    case AbortReason::stalled:
      return "stalled";
    case AbortReason::disk_needed:
      return "disk needed";
    case AbortReason::cancelled:
      return "cancelled";
  }
  return "?";
}

Result<std::vector<std::byte>> encode_header(const Header& h) {
  if (auto why = defect(h)) return fail(ErrorCode::invalid, "coredump header: " + *why);
  ByteWriter w;
  w.put_bytes(std::as_bytes(std::span(magic)));
  w.put(header_version);
  w.put(std::uint32_t{0});
  w.put(h.sequence);
  w.put(h.cluster.value());
  w.put_bytes(std::as_bytes(std::span(h.disk.bytes)));
  w.put(static_cast<std::uint8_t>(h.attribute));
  w.put(h.node.value());
  w.put(static_cast<std::uint8_t>(h.abort_reason));
  w.put(std::uint8_t{0});
  w.put(static_cast<std::uint32_t>(h.limit.count()));
  w.put(h.epoch.value());
  w.put(h.boot_nonce.value());
  w.put(disk::data_offset);
  w.put(h.room);
  w.put(h.stored);
  w.put(h.core_done);
  w.put(h.core_total);
  w.put(static_cast<std::uint32_t>(h.elapsed.count()));
  auto block = w.take();
  ASSERT(block.size() == used_size);
  block.resize(disk::area_block_size);
  store_le(block.data() + crc_offset, block_crc(block));
  return block;
}

Result<Header> decode_header(Bytes block) {
  if (block.size() != disk::area_block_size) {
    return fail(ErrorCode::invalid, "coredump header: not a block of 4096 bytes");
  }
  if (std::memcmp(block.data(), magic.data(), magic.size()) != 0) {
    return fail(ErrorCode::not_found, "no coredump header");
  }
  ByteReader reader(block.subspan(magic.size()));
  auto version = reader.get<std::uint32_t>();
  auto crc = reader.get<std::uint32_t>();
  if (crc != block_crc(block)) {
    return fail(ErrorCode::invalid, "coredump header: checksum is wrong");
  }
  if (version != header_version) {
    return fail(ErrorCode::unsupported_version,
                fmt::format("coredump header of version {}, we speak {}", version, header_version));
  }
  return decode_fields(reader);
}

Result<Header> choose_header(Bytes copy0, Bytes copy1) {
  auto first = decode_header(copy0);
  auto second = decode_header(copy1);
  for (const auto* copy : {&first, &second}) {
    if (!copy->has_value() && copy->error().code == ErrorCode::unsupported_version) return *copy;
  }
  if (first && second) {
    if (first->sequence != second->sequence) {
      return first->sequence > second->sequence ? first : second;
    }
    if (*first != *second) {
      return fail(ErrorCode::invalid, "two different coredump headers of one sequence");
    }
    return first;
  }
  if (first) return first;
  if (second) return second;
  return first.error().code == ErrorCode::invalid ? first : second;
}

}  // namespace duet::coredump
