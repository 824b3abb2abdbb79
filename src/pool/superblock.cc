#include "pool/superblock.h"

#include <algorithm>
#include <string>

#include "base/crc32c.h"

namespace duet::pool {
namespace {

constexpr std::uint64_t magic = 0x5346415754455544;  // "DUETWAFS"
constexpr std::uint32_t version = 1;
constexpr std::size_t crc_offset = 12;

std::uint32_t checksum(Bytes block) {
  std::uint32_t crc = crc32c(block.first(crc_offset));
  const std::byte zeros[4] = {};
  crc = crc32c_extend(crc, zeros);
  return crc32c_extend(crc, block.subspan(crc_offset + 4));
}

void put(ByteWriter& out, const TreeRoot& root) {
  std::byte pointer[filesystem::pointer_size];
  filesystem::store_pointer(pointer, root.pointer);
  out.put_bytes(pointer);
  out.put<std::uint64_t>(root.levels);
}

TreeRoot get_root(ByteReader& in, bool& valid, Generation generation) {
  const Bytes pointer = in.get_bytes(filesystem::pointer_size);
  const auto levels = in.get<std::uint64_t>();
  if (!in.ok()) return {};
  TreeRoot root{filesystem::load_pointer(pointer.data()), static_cast<std::uint8_t>(levels)};
  valid &= levels <= max_levels && root.pointer.birth <= generation;
  return root;
}

}  // namespace

Result<std::vector<std::byte>> encode(const Superblock& s) {
  ByteWriter out;
  out.put(magic);
  out.put(version);
  out.put<std::uint32_t>(0);  // CRC
  out.put<std::uint64_t>(0);  // size, below
  out.put_bytes(std::as_bytes(std::span(s.pool)));
  out.put(s.generation);
  out.put(s.epoch.value());
  out.put_bytes(nvlog::encode(s.position));
  put(out, s.maps);
  put(out, s.counts);
  put(out, s.inodes);
  out.put(s.next_inode);
  out.put(s.luns_created);
  out.put(s.next_volume);
  out.put<std::uint32_t>(0);
  raid::encode(s.layout, out);
  auto bytes = out.take();
  const std::size_t size =
      (bytes.size() + filesystem::block_size - 1) / filesystem::block_size * filesystem::block_size;
  if (size > superblock_size_max) {
    return fail(ErrorCode::no_space, "the pool has too many disks for its superblock");
  }
  bytes.resize(size);
  store_le<std::uint64_t>(&bytes[16], size);
  store_le(&bytes[crc_offset], checksum(bytes));
  return bytes;
}

Result<Superblock> decode_superblock(Bytes slot) {
  ByteReader in(slot);
  if (in.get<std::uint64_t>() != magic) return fail(ErrorCode::not_found, "no superblock");
  const auto found_version = in.get<std::uint32_t>();
  const auto crc = in.get<std::uint32_t>();
  const auto size = in.get<std::uint64_t>();
  if (!in.ok() || size == 0 || size > slot.size() || size % filesystem::block_size != 0 ||
      checksum(slot.first(static_cast<std::size_t>(size))) != crc) {
    return fail(ErrorCode::invalid, "a superblock is damaged");
  }
  if (found_version != version) {
    return fail(ErrorCode::unsupported_version, "the pool has version " +
                                                    std::to_string(found_version) +
                                                    ", this Duet reads " + std::to_string(version));
  }
  Superblock s;
  bool valid = true;
  const Bytes id = in.get_bytes(s.pool.size());
  if (in.ok()) std::ranges::copy(id, reinterpret_cast<std::byte*>(s.pool.data()));
  s.generation = in.get<std::uint64_t>();
  s.epoch = Epoch(in.get<std::uint64_t>());
  auto position = nvlog::decode_position(in.get_bytes(nvlog::position_size));
  if (!position) return std::unexpected(position.error());
  s.position = *position;
  s.maps = get_root(in, valid, s.generation);
  s.counts = get_root(in, valid, s.generation);
  s.inodes = get_root(in, valid, s.generation);
  s.next_inode = in.get<std::uint64_t>();
  s.luns_created = in.get<std::uint64_t>();
  s.next_volume = in.get<std::uint32_t>();
  in.get<std::uint32_t>();
  auto layout = raid::decode_layout(in);
  if (!layout) return std::unexpected(layout.error());
  s.layout = std::move(*layout);
  valid &= in.ok() && s.generation > 0 && s.generation < filesystem::generation_limit;
  if (!valid) return fail(ErrorCode::invalid, "a superblock has impossible fields");
  return s;
}

}  // namespace duet::pool
