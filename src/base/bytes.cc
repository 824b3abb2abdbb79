#include "base/bytes.h"

#include "base/ids.h"

namespace duet {

OwnedBuffer make_buffer(std::size_t size) {
  std::shared_ptr<std::byte[]> owner(new std::byte[size]());
  return {owner, {owner.get(), size}};
}

Slice copy_to_slice(Bytes bytes) {
  auto owner = std::make_shared_for_overwrite<std::byte[]>(bytes.size());
  if (!bytes.empty()) std::memcpy(owner.get(), bytes.data(), bytes.size());
  const Bytes copy{owner.get(), bytes.size()};
  return {std::move(owner), copy};
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
