// One list of fields, both directions: a message type declares
//
//   template <class A> void fields(A& a) { a(epoch), a(name), a(disks); }
//
// and gets its little-endian encoding and its decoding. For messages between processes of one node
// and one build; formats that outlive a build (disk, log, interconnect) are written out by hand.
//
// Integers and enumerations have their own width, bool is one byte, strings and vectors have a
// 32-bit count, std::optional one byte, std::variant one byte of index.
//
// What comes from another process may be anything: decoding fails cleanly, and allocates at most
// max_growth times the size of the message.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"

namespace duet {

namespace archive_detail {
template <class T>
struct IsStrong : std::false_type {};
template <class Tag, class Rep>
struct IsStrong<Strong<Tag, Rep>> : std::true_type {};
template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};
template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};
template <class T>
struct IsVariant : std::false_type {};
template <class... T>
struct IsVariant<std::variant<T...>> : std::true_type {};
}  // namespace archive_detail

class ArchiveWriter {
 public:
  template <class T>
  void operator()(const T& v) {
    using namespace archive_detail;
    if constexpr (std::is_enum_v<T>) {
      (*this)(static_cast<std::underlying_type_t<T>>(v));
    } else if constexpr (std::is_same_v<T, bool>) {
      out_.put(static_cast<std::uint8_t>(v));
    } else if constexpr (std::is_integral_v<T>) {
      out_.put(static_cast<std::make_unsigned_t<T>>(v));
    } else if constexpr (std::is_same_v<T, std::string>) {
      out_.put_string(v);
    } else if constexpr (IsStrong<T>::value) {
      (*this)(v.value());
    } else if constexpr (IsVector<T>::value) {
      out_.put(static_cast<std::uint32_t>(v.size()));
      if constexpr (std::is_same_v<T, std::vector<std::byte>>) {
        out_.put_bytes(v);
      } else {
        for (const auto& element : v) (*this)(element);
      }
    } else if constexpr (IsOptional<T>::value) {
      (*this)(v.has_value());
      if (v) (*this)(*v);
    } else if constexpr (IsVariant<T>::value) {
      out_.put(static_cast<std::uint8_t>(v.index()));
      std::visit([this](const auto& alternative) { (*this)(alternative); }, v);
    } else {
      const_cast<T&>(v).fields(*this);  // fields() is shared with reading, hence not const
    }
  }
  std::vector<std::byte> take() { return out_.take(); }

 private:
  ByteWriter out_;
};

// The fewest bytes that a value of a type takes in an archive.
class ArchiveMinimum {
 public:
  template <class T>
  static std::size_t of() {
    using namespace archive_detail;
    if constexpr (IsStrong<T>::value) {
      return sizeof(typename T::rep);
    } else if constexpr (std::is_enum_v<T> || std::is_integral_v<T>) {
      return sizeof(T);
    } else if constexpr (std::is_same_v<T, std::string> || IsVector<T>::value) {
      return sizeof(std::uint32_t);
    } else if constexpr (IsOptional<T>::value) {
      return 1;
    } else if constexpr (IsVariant<T>::value) {
      return 1 + least_of(static_cast<T*>(nullptr));
    } else {
      ArchiveMinimum sum;
      T().fields(sum);
      return sum.size_;
    }
  }
  template <class T>
  void operator()(const T&) {
    size_ += of<T>();
  }

 private:
  template <class... T>
  static std::size_t least_of(std::variant<T...>*) {
    return std::min({of<T>()...});
  }
  std::size_t size_ = 0;
};

class ArchiveReader {
 public:
  // Bytes in memory for each byte of a message, at most.
  static constexpr std::size_t max_growth = 64;

  explicit ArchiveReader(Bytes bytes) : in_(bytes) {}
  template <class T>
  void operator()(T& v) {
    using namespace archive_detail;
    if constexpr (std::is_enum_v<T>) {
      v = static_cast<T>(in_.get<std::make_unsigned_t<std::underlying_type_t<T>>>());
    } else if constexpr (std::is_same_v<T, bool>) {
      v = in_.get<std::uint8_t>() != 0;
    } else if constexpr (std::is_integral_v<T>) {
      v = static_cast<T>(in_.get<std::make_unsigned_t<T>>());
    } else if constexpr (std::is_same_v<T, std::string>) {
      v = in_.get_string(in_.remaining());
    } else if constexpr (IsStrong<T>::value) {
      typename T::rep rep{};
      (*this)(rep);
      v = T(rep);
    } else if constexpr (IsVector<T>::value) {
      auto n = in_.get<std::uint32_t>();
      // A count of more than the rest can hold is a lie, refused before allocating.
      using Element = typename T::value_type;
      static const std::size_t least = std::max<std::size_t>(1, ArchiveMinimum::of<Element>());
      ASSERT(sizeof(Element) <= max_growth * least);  // of our own types, not of the bytes
      if (n > in_.remaining() / least) refuse(), n = 0;
      if constexpr (std::is_same_v<T, std::vector<std::byte>>) {
        Bytes b = in_.get_bytes(n);
        v.assign(b.begin(), b.end());
      } else {
        v.clear();
        v.reserve(n);
        for (std::uint32_t i = 0; i < n && in_.ok(); ++i) {
          v.emplace_back();
          (*this)(v.back());
        }
      }
    } else if constexpr (IsOptional<T>::value) {
      bool present = false;
      (*this)(present);
      if (present) {
        v.emplace();
        (*this)(*v);
      } else {
        v.reset();
      }
    } else if constexpr (IsVariant<T>::value) {
      auto index = in_.get<std::uint8_t>();
      if (!read_alternative(v, index, std::make_index_sequence<std::variant_size_v<T>>())) {
        refuse();
      }
    } else {
      v.fields(*this);
    }
  }
  bool complete() const { return in_.ok() && in_.remaining() == 0; }

 private:
  template <class T, std::size_t... I>
  bool read_alternative(T& v, std::size_t index, std::index_sequence<I...>) {
    return ((index == I ? ((*this)(v.template emplace<I>()), true) : false) || ...);
  }
  void refuse() { in_.get_bytes(in_.remaining() + 1); }
  ByteReader in_;
};

template <class T>
std::vector<std::byte> archive(const T& message) {
  ArchiveWriter w;
  w(message);
  return w.take();
}

// invalid: truncated, too long, or a count or index out of range.
template <class T>
Result<T> unarchive(Bytes bytes) {
  ArchiveReader r(bytes);
  T message;
  r(message);
  if (!r.complete()) return fail(ErrorCode::invalid, "malformed message");
  return message;
}

}  // namespace duet
