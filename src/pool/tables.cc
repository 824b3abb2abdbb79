#include "pool/tables.h"

#include <algorithm>

#include "base/assert.h"
#include "base/crc32c.h"

namespace duet::pool {
namespace {

constexpr std::uint64_t lun_magic = 0x314e554c54455544;  // "DUETLUN1"
constexpr std::size_t lun_crc_offset = 8;
constexpr std::uint8_t reserved_flag = 1;
static_assert(max_offline_reason <= 255);

std::uint32_t lun_checksum(Bytes block) {
  std::uint32_t crc = crc32c(block.first(lun_crc_offset));
  const std::byte zeros[4] = {};
  crc = crc32c_extend(crc, zeros);
  return crc32c_extend(crc, block.subspan(lun_crc_offset + 4));
}

}  // namespace

std::vector<std::byte> encode_lun(const LunInfo& info, FileKey file) {
  ByteWriter out;
  out.put(lun_magic);
  out.put<std::uint32_t>(0);  // CRC
  out.put(info.number.value());
  out.put(static_cast<std::uint8_t>(info.name.size()));
  out.put(static_cast<std::uint8_t>(info.serial.size()));
  out.put(static_cast<std::uint8_t>(std::min(info.offline.size(), max_offline_reason)));
  out.put(info.reserved ? reserved_flag : std::uint8_t{0});
  out.put(static_cast<std::uint16_t>(info.reservations.size()));
  out.put(file.volume.value());
  out.put(file.inode.value());
  out.put(info.size);
  out.put(info.naa);
  out.put(crc32c(info.reservations));
  out.put_bytes(std::as_bytes(std::span(info.name)));
  out.put_bytes(std::as_bytes(std::span(info.serial)));
  out.put_bytes(std::as_bytes(std::span(info.offline))
                    .first(std::min(info.offline.size(), max_offline_reason)));
  auto bytes = out.take();
  bytes.resize(block_size);
  store_le(&bytes[lun_crc_offset], lun_checksum(bytes));
  return bytes;
}

Result<LunEntry> decode_lun(Bytes block) {
  ByteReader in(block);
  const auto magic = in.get<std::uint64_t>();
  const auto crc = in.get<std::uint32_t>();
  if (block.size() != block_size || magic != lun_magic || lun_checksum(block) != crc) {
    return fail(ErrorCode::invalid, "a slot of the LUN catalogue is damaged");
  }
  LunEntry entry;
  entry.info.number = LunNumber(in.get<std::uint16_t>());
  const auto name = in.get<std::uint8_t>();
  const auto serial = in.get<std::uint8_t>();
  const auto offline = in.get<std::uint8_t>();
  const auto flags = in.get<std::uint8_t>();
  entry.info.reserved = (flags & reserved_flag) != 0;
  entry.reservations_size = in.get<std::uint16_t>();
  entry.file.volume = VolumeId(in.get<std::uint32_t>());
  entry.file.inode = InodeNumber(in.get<std::uint64_t>());
  entry.info.size = in.get<std::uint64_t>();
  entry.info.naa = in.get<std::uint64_t>();
  in.get<std::uint32_t>();
  const auto text = [&in](std::size_t size) {
    const Bytes bytes = in.get_bytes(size);
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  entry.info.name = text(name);
  entry.info.serial = text(serial);
  entry.info.offline = text(offline);
  if (!in.ok() || entry.info.number.value() > filesystem::max_lun_number ||
      !filesystem::valid_lun_name(entry.info.name) ||
      !filesystem::valid_lun_serial(entry.info.serial) || flags > reserved_flag ||
      entry.info.size == 0 || entry.info.size > filesystem::max_lun_size ||
      entry.info.size % block_size != 0 ||
      entry.reservations_size > filesystem::max_reservation_state) {
    return fail(ErrorCode::invalid, "a slot of the LUN catalogue has impossible fields");
  }
  return entry;
}

Inode inode_of(const LunInfo& info, VolumeId volume) {
  static_assert(8 + 1 + filesystem::max_lun_name + 1 + filesystem::max_lun_serial <=
                filesystem::max_inline);
  Inode inode;
  inode.type = filesystem::FileType::vdisk;
  inode.size = info.size;
  inode.links = 1;
  inode.entries = volume.value();
  ByteWriter out;
  out.put(info.naa);
  for (const std::string* text : {&info.name, &info.serial}) {
    out.put(static_cast<std::uint8_t>(text->size()));
    out.put_bytes(std::as_bytes(std::span(*text)));
  }
  const auto bytes = out.take();
  inode.inlined.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return inode;
}

std::optional<LunInfo> lun_shown_by(const Inode& vdisk) {
  ByteReader in(std::as_bytes(std::span(vdisk.inlined)));
  LunInfo info;
  info.naa = in.get<std::uint64_t>();
  for (std::string* text : {&info.name, &info.serial}) {
    const Bytes bytes = in.get_bytes(in.get<std::uint8_t>());
    text->assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  info.size = vdisk.size;
  const bool whole = in.ok() && in.remaining() == 0;
  if (!whole || vdisk.type != filesystem::FileType::vdisk ||
      !filesystem::valid_lun_name(info.name) || !filesystem::valid_lun_serial(info.serial) ||
      info.size == 0 || info.size > filesystem::max_lun_size || info.size % block_size != 0) {
    return {};
  }
  return info;
}

std::vector<std::byte> encode_zombies(const std::vector<Zombie>& zombies) {
  ByteWriter out;
  for (const Zombie& z : zombies) {
    std::byte pointer[filesystem::pointer_size];
    filesystem::store_pointer(pointer, z.pointer);
    out.put_bytes(pointer);
    out.put(z.level);
    out.put(static_cast<std::uint8_t>((z.inodes ? 1 : 0) | (z.prune ? 2 : 0)));
    out.put<std::uint16_t>(0);
    out.put(z.volume.value());
    out.put(z.keep);
    out.put(z.detached);
    out.put<std::uint64_t>(0);
  }
  return out.take();
}

Result<std::vector<Zombie>> decode_zombies(Bytes bytes) {
  if (bytes.size() % zombie_size != 0) {
    return fail(ErrorCode::invalid, "the list of removed trees has an impossible size");
  }
  std::vector<Zombie> zombies;
  ByteReader in(bytes);
  while (in.remaining() > 0) {
    Zombie z;
    z.pointer = filesystem::load_pointer(in.get_bytes(filesystem::pointer_size).data());
    z.level = in.get<std::uint8_t>();
    const auto flags = in.get<std::uint8_t>();
    in.get<std::uint16_t>();
    z.inodes = (flags & 1) != 0;
    z.prune = (flags & 2) != 0;
    z.volume = VolumeId(in.get<std::uint32_t>());
    z.keep = in.get<std::uint64_t>();
    z.detached = in.get<std::uint64_t>();
    in.get<std::uint64_t>();
    if (z.level > max_levels || flags > 3 || z.pointer.hole()) {
      return fail(ErrorCode::invalid, "the list of removed trees has an impossible entry");
    }
    zombies.push_back(z);
  }
  return zombies;
}

Status for_each_block(filesystem::View& view, FileKey file,
                      const std::function<Status(std::uint64_t, Bytes)>& visit) {
  Status result;
  for (std::uint64_t number = 0;; ++number) {
    auto next = view.next_block(file, number);
    if (!next) return std::unexpected(next.error());
    if (*next == filesystem::max_file_blocks) return result;
    number = *next;
    auto block = view.block(file, number);
    if (!block) {
      result = std::unexpected(block.error());
      if (result.error().code != ErrorCode::busy) return result;
    } else if (auto status = visit(number, *block); !status) {
      return status;
    }
  }
}

}  // namespace duet::pool
