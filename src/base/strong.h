// Strong<Tag, Rep>: an integer that does not mix with others. Comparable and hashable; arithmetic
// is spelled out through value().
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace duet {

template <class Tag, class Rep>
class Strong {
 public:
  using rep = Rep;
  constexpr Strong() = default;
  constexpr explicit Strong(Rep value) : value_(value) {}
  constexpr Rep value() const { return value_; }
  constexpr Strong next() const { return Strong(static_cast<Rep>(value_ + 1)); }
  constexpr auto operator<=>(const Strong&) const = default;

 private:
  Rep value_{};
};

}  // namespace duet

template <class Tag, class Rep>
struct std::hash<duet::Strong<Tag, Rep>> {
  std::size_t operator()(duet::Strong<Tag, Rep> s) const { return std::hash<Rep>()(s.value()); }
};
