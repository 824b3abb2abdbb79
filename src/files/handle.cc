#include "files/handle.h"

namespace duet::files {
namespace {

constexpr std::uint8_t version = 1;

}  // namespace

std::array<std::byte, handle_size> encode(const Handle& handle) {
  std::array<std::byte, handle_size> out{};
  out[0] = std::byte{version};
  store_le(&out[4], handle.file.volume.value());
  store_le(&out[8], handle.file.inode.value());
  store_le(&out[16], static_cast<std::uint64_t>(handle.generation));
  return out;
}

Result<Handle> decode_handle(Bytes from) {
  if (from.size() != handle_size) return fail(ErrorCode::invalid, "a file handle: its length");
  if (from[0] != std::byte{version}) {
    return fail(ErrorCode::unsupported_version, "a file handle of another version");
  }
  if (from[1] != std::byte{} || from[2] != std::byte{} || from[3] != std::byte{}) {
    return fail(ErrorCode::invalid, "a file handle: bytes that are 0");
  }
  Handle handle;
  handle.file.volume = filesystem::VolumeId(load_le<std::uint32_t>(&from[4]));
  handle.file.inode = filesystem::InodeNumber(load_le<std::uint64_t>(&from[8]));
  handle.generation = static_cast<std::int64_t>(load_le<std::uint64_t>(&from[16]));
  if (handle.file.volume == filesystem::pool_volume || handle.file.inode == filesystem::no_inode) {
    return fail(ErrorCode::invalid, "a file handle that names no file");
  }
  return handle;
}

}  // namespace duet::files
