#include "iscsi/text.h"

#include <algorithm>
#include <charconv>

namespace duet::iscsi {

Result<std::vector<KeyValue>> parse_text(Bytes text) {
  std::vector<KeyValue> pairs;
  std::string_view rest(reinterpret_cast<const char*>(text.data()), text.size());
  while (!rest.empty()) {
    auto end = rest.find('\0');
    std::string_view pair = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    if (pair.empty()) continue;  // padding counted into the length by some initiators
    auto equals = pair.find('=');
    if (equals == std::string_view::npos || equals == 0 || equals > max_key_size) {
      return fail(ErrorCode::invalid, "text is not key=value");
    }
    if (pair.size() - equals - 1 > max_value_size) return fail(ErrorCode::invalid, "long value");
    if (pairs.size() == max_keys) return fail(ErrorCode::invalid, "too many keys");
    pairs.push_back({std::string(pair.substr(0, equals)), std::string(pair.substr(equals + 1))});
  }
  return pairs;
}

std::string format_text(const std::vector<KeyValue>& pairs) {
  std::string text;
  for (const auto& pair : pairs) {
    text += pair.key;
    text += '=';
    text += pair.value;
    text += '\0';
  }
  return text;
}

std::optional<std::uint32_t> parse_number(std::string_view text) {
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0X")) {
    base = 16;
    text.remove_prefix(2);
  }
  std::uint32_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return {};
  return number;
}

std::optional<bool> parse_boolean(std::string_view text) {
  if (text == "Yes") return true;
  if (text == "No") return false;
  return {};
}

std::vector<std::string_view> split_list(std::string_view text) {
  std::vector<std::string_view> parts;
  while (true) {
    auto comma = text.find(',');
    parts.push_back(text.substr(0, comma));
    if (comma == std::string_view::npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

bool valid_iscsi_name(std::string_view name) {
  if (name.size() > 223) return false;
  if (!name.starts_with("iqn.") && !name.starts_with("eui.") && !name.starts_with("naa.")) {
    return false;
  }
  return std::ranges::all_of(name, [](char c) {
    auto u = static_cast<unsigned char>(c);
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == ':' || c == '_' || u >= 0x80;  // UTF-8 as it comes
  });
}

}  // namespace duet::iscsi
