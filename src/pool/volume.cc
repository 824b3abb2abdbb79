#include "pool/volume.h"

#include <algorithm>

#include "base/assert.h"
#include "filesystem/log_record.h"

namespace duet::pool {
namespace {

constexpr std::size_t inode_offset = 128;
constexpr std::size_t name_offset = 384;
static_assert(name_offset == inode_offset + filesystem::inode_size);
static_assert(name_offset + 1 + max_volume_name <= volume_record_size);

}  // namespace

bool valid_volume_name(std::string_view name) {
  return filesystem::valid_lun_name(name);
}

void encode(const Volume& v, MutableBytes to) {
  ASSERT(to.size() == volume_record_size && v.name.size() <= max_volume_name);
  std::ranges::fill(to, std::byte{0});
  if (v.kind == VolumeKind::none) return;
  ByteWriter out;
  out.put(static_cast<std::uint8_t>(v.kind));
  out.put(static_cast<std::uint8_t>(v.deleting));
  out.put<std::uint16_t>(0);
  out.put(v.id.value());
  out.put(v.parent.value());
  out.put(v.clones);
  out.put(v.birth);
  out.put(v.next_inode);
  out.put(v.dead_list.value());
  out.put(v.dead_size);
  out.put(v.dead_begin);
  out.put(v.quota);
  out.put(v.reservation);
  out.put(v.used);
  out.put(static_cast<std::uint64_t>(v.created));
  const auto bytes = out.take();
  ASSERT(bytes.size() <= inode_offset);
  std::ranges::copy(bytes, to.begin());
  filesystem::encode(v.inodes, to.subspan(inode_offset, filesystem::inode_size));
  to[name_offset] = static_cast<std::byte>(v.name.size());
  std::ranges::copy(std::as_bytes(std::span(v.name)), to.begin() + name_offset + 1);
}

Result<Volume> decode_volume(Bytes from) {
  Volume v;
  ByteReader in(from);
  const auto kind = in.get<std::uint8_t>();
  const auto deleting = in.get<std::uint8_t>();
  if (kind == 0) {
    if (std::ranges::any_of(from, [](std::byte b) { return b != std::byte{0}; })) {
      return fail(ErrorCode::invalid, "a free volume record is not empty");
    }
    return v;
  }
  in.get<std::uint16_t>();
  if (kind > 2 || deleting > 1)
    return fail(ErrorCode::invalid, "a volume record has no valid kind");
  v.kind = static_cast<VolumeKind>(kind);
  v.deleting = deleting != 0;
  v.id = VolumeId(in.get<std::uint32_t>());
  v.parent = VolumeId(in.get<std::uint32_t>());
  v.clones = in.get<std::uint32_t>();
  v.birth = in.get<std::uint64_t>();
  v.next_inode = in.get<std::uint64_t>();
  v.dead_list = InodeNumber(in.get<std::uint64_t>());
  v.dead_size = in.get<std::uint64_t>();
  v.dead_begin = in.get<std::uint64_t>();
  v.quota = in.get<std::uint64_t>();
  v.reservation = in.get<std::uint64_t>();
  v.used = in.get<std::uint64_t>();
  v.created = static_cast<std::int64_t>(in.get<std::uint64_t>());
  auto inode = filesystem::decode_inode(from.subspan(inode_offset, filesystem::inode_size));
  if (!inode) return std::unexpected(inode.error());
  v.inodes = std::move(*inode);
  const auto length = static_cast<std::size_t>(from[name_offset]);
  if (length > max_volume_name) return fail(ErrorCode::invalid, "a volume has too long a name");
  v.name.assign(reinterpret_cast<const char*>(&from[name_offset + 1]), length);
  if (!valid_volume_name(v.name) || v.id.value() == 0 || v.id.value() > max_volume_id ||
      v.dead_begin > v.dead_size || v.birth >= filesystem::generation_limit) {
    return fail(ErrorCode::invalid, "volume " + std::to_string(v.id.value()) + " is impossible");
  }
  return v;
}

}  // namespace duet::pool
