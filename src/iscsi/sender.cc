#include "iscsi/sender.h"

#include <array>
#include <atomic>

#include "base/crc32c.h"
#include "base/data_memory.h"

namespace duet::iscsi {
namespace {

constexpr std::size_t arena_size = 16384;

}  // namespace

void Sender::set_digests(bool header, bool data) {
  header_digest_ = header;
  data_digest_ = data;
}

MutableBytes Sender::allocate(std::size_t size) {
  ASSERT(size <= arena_size);
  if (arena_ && arena_.use_count() == 1) {  // all of it has left
    std::atomic_thread_fence(std::memory_order_acquire);
    used_ = 0;
  }
  if (!arena_ || arena_size - used_ < size) {
    arena_ = make_raw_buffer(arena_size).owner;
    used_ = 0;
  }
  MutableBytes room(arena_.get() + used_, size);
  used_ += size;
  return room;
}

Slice Sender::copy(Bytes data) {
  if (data.size() > arena_size / 4) return copy_to_slice(data);
  MutableBytes room = allocate(data.size());
  if (!data.empty()) std::memcpy(room.data(), data.data(), data.size());
  return {arena_, room};
}

// Neighbours in the arena become one slice.
void Sender::append(Bytes bytes, std::vector<Slice>& out) {
  if (!out.empty() && out.back().owner == arena_ &&
      out.back().bytes.data() + out.back().bytes.size() == bytes.data()) {
    out.back().bytes = Bytes(out.back().bytes.data(), out.back().bytes.size() + bytes.size());
    return;
  }
  out.push_back({arena_, bytes});
}

void Sender::finish_header(MutableBytes room, std::vector<Slice>& out) {
  if (header_digest_) store_le(room.data() + header_size, crc32c(room.first(header_size)));
  append(room, out);
}

void Sender::put_data(std::span<const Slice> data, std::size_t data_size, std::vector<Slice>& out) {
  std::uint32_t crc = 0;
  for (const auto& slice : data) {
    if (data_digest_) crc = crc32c_extend(crc, slice.bytes);
    out.push_back(slice);
  }
  std::size_t padding = padded(data_size) - data_size;
  std::size_t trailer = padding + (data_digest_ ? digest_size : 0);
  if (trailer == 0) return;
  MutableBytes room = allocate(trailer);
  std::memset(room.data(), 0, padding);
  if (data_digest_) {
    crc = crc32c_extend(crc, room.first(padding));
    store_le(room.data() + padding, crc);
  }
  append(room, out);
}

}  // namespace duet::iscsi
