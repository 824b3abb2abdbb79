#include "base/bytes.h"

#include <algorithm>

#include "base/data_memory.h"
#include "base/ids.h"

namespace duet {

OwnedBuffer make_raw_buffer(std::size_t size) {
  auto owner = std::allocate_shared_for_overwrite<std::byte[]>(DataAllocator<std::byte>(), size);
  const MutableBytes bytes(owner.get(), size);
  return {std::move(owner), bytes};
}

OwnedBuffer make_buffer(std::size_t size) {
  OwnedBuffer buffer = make_raw_buffer(size);
  std::ranges::fill(buffer.bytes, std::byte{0});
  return buffer;
}

Slice copy_to_slice(Bytes bytes) {
  OwnedBuffer copy = make_raw_buffer(bytes.size());
  std::ranges::copy(bytes, copy.bytes.begin());
  return {std::move(copy.owner), copy.bytes};
}

Bytes ByteReader::get_bytes(std::size_t n) {
  if (rest_.size() < n) return failed<Bytes>();
  Bytes b = rest_.first(n);
  rest_ = rest_.subspan(n);
  return b;
}

std::string ByteReader::get_string(std::size_t max_size) {
  auto n = get<std::uint32_t>();
  if (n > max_size) return failed<std::string>();
  Bytes b = get_bytes(n);
  return {reinterpret_cast<const char*>(b.data()), b.size()};
}

std::string to_hex(Bytes bytes) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string s;
  s.reserve(bytes.size() * 2);
  for (std::byte b : bytes) {
    s += digits[std::to_integer<unsigned>(b) >> 4];
    s += digits[std::to_integer<unsigned>(b) & 15];
  }
  return s;
}

std::string to_string(const DiskId& id) {
  return to_hex(std::as_bytes(std::span(id.bytes)));
}

}  // namespace duet
