// The text of login and text units: key=value pairs, each ended by a NUL (RFC 7143 6.1).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace duet::iscsi {

struct KeyValue {
  std::string key;
  std::string value;
  bool operator==(const KeyValue&) const = default;
};

inline constexpr std::size_t max_keys = 64;  // in one negotiation request
inline constexpr std::size_t max_key_size = 63;
inline constexpr std::size_t max_value_size = 8192;
// Text of one request, over all its units.
inline constexpr std::size_t max_text_size = 65536;

// Error: invalid. A last pair without its NUL is accepted, as other targets do.
Result<std::vector<KeyValue>> parse_text(Bytes text);
std::string format_text(const std::vector<KeyValue>& pairs);

// Decimal or 0x hexadecimal (RFC 7143 6.1, numerical-value), up to 32 bits.
std::optional<std::uint32_t> parse_number(std::string_view text);
std::optional<bool> parse_boolean(std::string_view text);  // "Yes", "No"
// The elements of a comma-separated list of values.
std::vector<std::string_view> split_list(std::string_view text);

// RFC 7143 4.2.7.1: what iqn., eui. and naa. names may be made of; at most 223 bytes.
bool valid_iscsi_name(std::string_view name);

}  // namespace duet::iscsi
