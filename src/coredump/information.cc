#include "coredump/information.h"

#include <fmt/format.h>

#include <algorithm>

namespace duet::coredump {
namespace {

constexpr std::uint32_t information_version = 1;

std::string_view cut(std::string_view text, std::size_t most) {
  return text.substr(0, most);
}

// Length of the UTF-8 sequence (RFC 3629) at the front of `text`; 0 if there is none.
std::size_t utf8_length(std::string_view text) {
  auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  unsigned char first = at(0);
  if (first < 0x80) return 1;
  std::size_t length = 0;
  if (first >= 0xc2 && first <= 0xdf) length = 2;
  if (first >= 0xe0 && first <= 0xef) length = 3;
  if (first >= 0xf0 && first <= 0xf4) length = 4;
  if (length == 0 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((at(i) & 0xc0) != 0x80) return 0;
  }
  // Overlong forms, surrogates, beyond U+10FFFF.
  if ((first == 0xe0 && at(1) < 0xa0) || (first == 0xed && at(1) > 0x9f) ||
      (first == 0xf0 && at(1) < 0x90) || (first == 0xf4 && at(1) > 0x8f)) {
    return 0;
  }
  return length;
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    std::size_t length = utf8_length(text);
    char c = text.front();
    if (length == 0) {
      out += "\xef\xbf\xbd";
    } else if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return out + '"';
}

}  // namespace

std::vector<std::byte> encode_information(const Information& i) {
  ByteWriter w;
  w.put(information_version);
  w.put(i.node.value());
  w.put(i.signal);
  w.put(i.thread);
  w.put(i.epoch.value());
  w.put(i.boot_nonce.value());
  w.put(i.log_written.value());
  w.put(i.log_freed.value());
  w.put(i.wall_time);
  w.put_string(cut(i.version, max_short_text));
  w.put_string(cut(i.build_id, max_short_text));
  w.put_string(cut(i.reason, max_reason));
  w.put_string(cut(i.thread_name, max_short_text));
  std::size_t frames = std::min(i.stack.size(), max_frames);
  w.put(static_cast<std::uint32_t>(frames));
  for (std::size_t n = 0; n < frames; ++n) w.put_string(cut(i.stack[n], max_frame));
  return w.take();
}

Result<Information> decode_information(Bytes bytes) {
  ByteReader reader(bytes);
  Information i;
  auto version = reader.get<std::uint32_t>();
  i.node = NodeId(reader.get<std::uint8_t>());
  i.signal = reader.get<std::uint32_t>();
  i.thread = reader.get<std::uint32_t>();
  i.epoch = Epoch(reader.get<std::uint64_t>());
  i.boot_nonce = BootNonce(reader.get<std::uint64_t>());
  i.log_written = LogSequence(reader.get<std::uint64_t>());
  i.log_freed = LogSequence(reader.get<std::uint64_t>());
  i.wall_time = reader.get<std::uint64_t>();
  i.version = reader.get_string(max_short_text);
  i.build_id = reader.get_string(max_short_text);
  i.reason = reader.get_string(max_reason);
  i.thread_name = reader.get_string(max_short_text);
  auto frames = reader.get<std::uint32_t>();
  if (!reader.ok() || frames > max_frames) {
    return fail(ErrorCode::invalid, "coredump information is cut off or too long");
  }
  for (std::uint32_t n = 0; n < frames; ++n) i.stack.push_back(reader.get_string(max_frame));
  if (!reader.ok() || reader.remaining() != 0) {
    return fail(ErrorCode::invalid, "coredump information is cut off or too long");
  }
  if (version != information_version || (i.node != NodeId(1) && i.node != NodeId(2))) {
    return fail(ErrorCode::invalid, "coredump information of an unknown version or node");
  }
  return i;
}

std::string to_json(const Information& i, const Outcome& outcome) {
  std::string stack;
  for (const auto& frame : i.stack) {
    if (!stack.empty()) stack += ',';
    stack += quoted(frame);
  }
  return fmt::format(
      "{{\"node\":{},\"signal\":{},\"thread\":{},\"epoch\":\"{}\",\"boot_nonce\":\"{:016x}\","
      "\"log_written\":\"{}\",\"log_freed\":\"{}\",\"time\":{},\"version\":{},\"build_id\":{},"
      "\"reason\":{},\"thread_name\":{},\"stack\":[{}],\"complete\":{},\"core_bytes\":\"{}\","
      "\"raw_bytes\":\"{}\",\"end\":{}}}\n",
      i.node.value(), i.signal, i.thread, i.epoch.value(), i.boot_nonce.value(),
      i.log_written.value(), i.log_freed.value(), i.wall_time, quoted(i.version),
      quoted(i.build_id), quoted(i.reason), quoted(i.thread_name), stack, outcome.complete,
      outcome.core_bytes, outcome.raw_bytes, quoted(outcome.end));
}

}  // namespace duet::coredump
