// The other end for tests: builds requests byte by byte and reads answers back.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/crc32c.h"
#include "iscsi/connection.h"

namespace duet::iscsi::testing {

inline constexpr const char* initiator_name = "iqn.2026-11.com.example:host";
inline constexpr const char* target_name = "iqn.2026-11.org.duet:red";

// A unit as bytes, fields set by position.
class Pdu {
 public:
  explicit Pdu(std::uint8_t opcode, std::uint8_t flags = 0x80) : bytes_(header_size) {
    u8(0, opcode).u8(1, flags);
  }
  Pdu& u8(std::size_t i, std::uint8_t v) {
    bytes_[i] = static_cast<std::byte>(v);
    return *this;
  }
  Pdu& u16(std::size_t i, std::uint16_t v) {
    store_be(bytes_.data() + i, v);
    return *this;
  }
  Pdu& u32(std::size_t i, std::uint32_t v) {
    store_be(bytes_.data() + i, v);
    return *this;
  }
  Pdu& lun(unsigned n) { return u8(9, static_cast<std::uint8_t>(n)); }
  Pdu& itt(std::uint32_t v) { return u32(16, v); }
  Pdu& cmd_sn(std::uint32_t v) { return u32(24, v); }
  Pdu& data(std::string_view text) {
    data_ = text;
    return *this;
  }
  std::vector<std::byte> bytes(bool header_digest = false, bool data_digest = false) const {
    auto out = bytes_;
    auto size = static_cast<std::uint32_t>(data_.size());
    out[5] = static_cast<std::byte>(size >> 16);
    out[6] = static_cast<std::byte>(size >> 8);
    out[7] = static_cast<std::byte>(size);
    if (header_digest) append_crc(out, crc32c(out));
    auto data = std::as_bytes(std::span(data_));
    std::vector<std::byte> segment(data.begin(), data.end());
    segment.resize(padded(segment.size()));
    out.insert(out.end(), segment.begin(), segment.end());
    if (data_digest && !segment.empty()) append_crc(out, crc32c(segment));
    return out;
  }

 private:
  static void append_crc(std::vector<std::byte>& out, std::uint32_t crc) {
    out.resize(out.size() + 4);
    store_le(out.data() + out.size() - 4, crc);
  }
  std::vector<std::byte> bytes_;
  std::string data_;
};

inline std::string text(std::initializer_list<std::string_view> pairs) {
  std::string all;
  for (auto pair : pairs) {
    all += pair;
    all += '\0';
  }
  return all;
}

// An answer of the target.
struct Answer {
  std::vector<std::byte> header;
  std::string data;
  std::uint8_t u8(std::size_t i) const { return std::to_integer<std::uint8_t>(header[i]); }
  std::uint16_t u16(std::size_t i) const { return load_be<std::uint16_t>(header.data() + i); }
  std::uint32_t u32(std::size_t i) const { return load_be<std::uint32_t>(header.data() + i); }
  std::uint8_t opcode() const { return u8(0) & 0x3f; }
  std::uint32_t itt() const { return u32(16); }
  std::uint32_t stat_sn() const { return u32(24); }
  std::uint32_t exp_cmd_sn() const { return u32(28); }
  std::uint32_t max_cmd_sn() const { return u32(32); }
  bool final() const { return (u8(1) & 0x80) != 0; }
};

inline std::vector<Answer> parse_answers(const std::vector<Slice>& slices,
                                         bool header_digest = false, bool data_digest = false) {
  std::vector<std::byte> all;
  for (const auto& s : slices) all.insert(all.end(), s.bytes.begin(), s.bytes.end());
  std::vector<Answer> answers;
  std::size_t at = 0;
  auto crc_ok = [&](std::size_t begin, std::size_t end) {
    return load_le<std::uint32_t>(all.data() + end) ==
           crc32c(Bytes(all).subspan(begin, end - begin));
  };
  while (at < all.size()) {
    ASSERT(all.size() - at >= header_size);
    Answer a;
    a.header.assign(all.begin() + static_cast<long>(at),
                    all.begin() + static_cast<long>(at + header_size));
    at += header_size;
    if (header_digest) {
      ASSERT(crc_ok(at - header_size, at));
      at += 4;
    }
    std::size_t size = a.u32(4) & 0xffffff;
    ASSERT(all.size() - at >= padded(size));
    a.data.assign(reinterpret_cast<const char*>(all.data()) + at, size);
    at += padded(size);
    if (data_digest && size > 0) {
      ASSERT(crc_ok(at - padded(size), at));
      at += 4;
    }
    answers.push_back(std::move(a));
  }
  return answers;
}

class OneTarget final : public TargetDirectory {
 public:
  std::optional<TargetInfo> find(std::string_view name) const override {
    if (name != target_name) return {};
    return TargetInfo{.ready = ready, .alias = "red"};
  }
  std::vector<DiscoveredTarget> discover() const override {
    if (!ready) return {};
    std::vector<DiscoveredTarget> all{{target_name, {"127.0.0.1:3260,1", "127.0.0.2:3260,2"}}};
    for (int i = 0; i < more_targets; ++i) {
      all.push_back({"iqn.2026-11.org.duet:more-" + std::to_string(i), {"127.0.0.3:3260,1"}});
    }
    return all;
  }
  bool ready = true;
  int more_targets = 0;
};

// A connection with its other end.
struct Wire {
  explicit Wire(bool log_in = true, std::initializer_list<std::string_view> keys = {
                                        "InitialR2T=No", "ImmediateData=Yes"}) {
    if (!log_in) return;
    std::string all = text({"InitiatorName=iqn.2026-11.com.example:host",
                            "TargetName=iqn.2026-11.org.duet:red", "SessionType=Normal"}) +
                      text(keys);
    receive(login(0x87, all));  // operational to full feature
    ASSERT(connection.phase() == Connection::Phase::admission);
    admit();
    answers();
    orders();
  }

  static Pdu login(std::uint8_t flags, std::string_view keys) {
    return Pdu(0x43, flags)
        .u16(8, 0x8012)
        .u32(10, 0x34560000)
        .itt(7)
        .u32(24, 100)
        .u32(28, 500)
        .data(keys);
  }

  void receive(const std::vector<std::byte>& bytes) {
    std::size_t at = 0;
    while (at < bytes.size()) {
      auto room = connection.receive_buffer();
      if (room.empty()) return;
      std::size_t n = std::min(room.size(), bytes.size() - at);
      std::memcpy(room.data(), bytes.data() + at, n);
      connection.on_received(n, now, actions);
      at += n;
    }
  }
  void receive(const Pdu& pdu) { receive(pdu.bytes(header_digest, data_digest)); }
  void admit() { connection.on_admitted(9, actions); }

  std::vector<Answer> answers() {
    return parse_answers(std::exchange(actions.send, {}), header_digest, data_digest);
  }
  std::vector<Order> orders() { return std::exchange(actions.orders, {}); }
  // The one command that was submitted.
  SubmitCommand submitted() {
    auto all = orders();
    ASSERT(all.size() == 1 && std::holds_alternative<SubmitCommand>(all[0]));
    return std::get<SubmitCommand>(std::move(all[0]));
  }

  // A SCSI command with the next CmdSN.
  Pdu command(std::uint8_t flags, std::uint32_t itt, std::uint32_t length) {
    return Pdu(0x01, flags).itt(itt).u32(20, length).cmd_sn(cmd_sn++);
  }
  static Pdu data_out(std::uint8_t flags, std::uint32_t itt, std::uint32_t ttt,
                      std::uint32_t data_sn, std::uint32_t offset, std::string_view data) {
    return Pdu(0x05, flags).itt(itt).u32(20, ttt).u32(36, data_sn).u32(40, offset).data(data);
  }
  void respond(const SubmitCommand& s, scsi::Response response = {}) {
    connection.on_response(s.command.tag, std::move(response), actions);
  }

  OneTarget directory;
  Instant now{seconds(1000)};
  Connection connection{3, directory, 1, 1, now};
  Actions actions;
  std::uint32_t cmd_sn = 100;
  bool header_digest = false;
  bool data_digest = false;
};

inline std::string joined(const std::vector<Slice>& slices) {
  std::string all;
  for (const auto& s : slices) {
    all.append(reinterpret_cast<const char*>(s.bytes.data()), s.bytes.size());
  }
  return all;
}

constexpr std::uint8_t final_flag = 0x80, read_flag = 0x40, write_flag = 0x20;

}  // namespace duet::iscsi::testing
