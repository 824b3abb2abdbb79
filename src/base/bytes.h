// Views of bytes, shared slices of buffers, and the encoding every format of ours uses: fixed size,
// little-endian. SCSI and iSCSI are big-endian and use the _be functions.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/assert.h"

namespace duet {

using Bytes = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;

// Part of a shared buffer; keeps the buffer alive. Lets data travel from the socket through log and
// cache to the disk without a copy.
struct Slice {
  std::shared_ptr<const std::byte[]> owner;
  Bytes bytes;
};
// A fresh zeroed buffer of `size` bytes, writable through `bytes`.
struct OwnedBuffer {
  std::shared_ptr<std::byte[]> owner;
  MutableBytes bytes;
  Slice slice() const { return {owner, bytes}; }
};
OwnedBuffer make_buffer(std::size_t size);
Slice copy_to_slice(Bytes bytes);

template <class T>
T load_le(const std::byte* p) {
  static_assert(std::is_unsigned_v<T>);
  T v;
  std::memcpy(&v, p, sizeof v);
  if constexpr (std::endian::native == std::endian::big) v = std::byteswap(v);
  return v;
}
template <class T>
void store_le(std::byte* p, T v) {
  static_assert(std::is_unsigned_v<T>);
  if constexpr (std::endian::native == std::endian::big) v = std::byteswap(v);
  std::memcpy(p, &v, sizeof v);
}
template <class T>
T load_be(const std::byte* p) {
  static_assert(std::is_unsigned_v<T>);
  T v;
  std::memcpy(&v, p, sizeof v);
  if constexpr (sizeof v > 1 && std::endian::native == std::endian::little) v = std::byteswap(v);
  return v;
}
template <class T>
void store_be(std::byte* p, T v) {
  static_assert(std::is_unsigned_v<T>);
  if constexpr (sizeof v > 1 && std::endian::native == std::endian::little) v = std::byteswap(v);
  std::memcpy(p, &v, sizeof v);
}

// Appends little-endian fields.
class ByteWriter {
 public:
  template <class T>
  void put(T v) {
    std::byte b[sizeof v];
    store_le(b, v);
    bytes_.insert(bytes_.end(), b, b + sizeof v);
  }
  void put_bytes(Bytes b) { bytes_.insert(bytes_.end(), b.begin(), b.end()); }
  // 32-bit length, then the characters.
  void put_string(std::string_view s) {
    put(static_cast<std::uint32_t>(s.size()));
    put_bytes(std::as_bytes(std::span(s)));
  }
  std::vector<std::byte> take() { return std::move(bytes_); }
  std::size_t size() const { return bytes_.size(); }

 private:
  std::vector<std::byte> bytes_;
};

// Reads little-endian fields of foreign bytes. Past the end every read gives zero and ok() is false
// for good: check once, after the last field.
class ByteReader {
 public:
  explicit ByteReader(Bytes bytes) : rest_(bytes) {}
  template <class T>
  T get() {
    if (rest_.size() < sizeof(T)) return failed<T>();
    T v = load_le<T>(rest_.data());
    rest_ = rest_.subspan(sizeof(T));
    return v;
  }
  Bytes get_bytes(std::size_t n);
  std::string get_string(std::size_t max_size = 65536);
  bool ok() const { return ok_; }
  std::size_t remaining() const { return rest_.size(); }

 private:
  template <class T>
  T failed() {
    ok_ = false;
    rest_ = {};
    return T{};
  }
  Bytes rest_;
  bool ok_ = true;
};

std::string to_hex(Bytes bytes);

}  // namespace duet
