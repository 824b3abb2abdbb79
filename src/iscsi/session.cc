#include "iscsi/session.h"

#include <algorithm>

#include "base/assert.h"
#include "base/crc32c.h"

namespace duet::iscsi {
namespace {

constexpr std::uint32_t magic = 0x53534944;  // "DISS"
constexpr std::uint16_t version = 1;
constexpr std::size_t fixed_size = 56;
constexpr std::size_t crc_size = 4;
constexpr std::uint32_t segment_least = 512, segment_most = (1u << 24) - 1;  // RFC 7143 13.12
constexpr std::uint32_t time_most = 3600;                                    // seconds, 13.15

enum Flag : std::uint8_t {
  discovery = 1,
  header_digest = 2,
  data_digest = 4,
  initial_r2t = 8,
  immediate_data = 16,
  all_flags = 31,
};

std::unexpected<Error> bad(const char* what) {
  return fail(ErrorCode::invalid, std::string("session state: ") + what);
}

bool between(std::uint32_t least, std::uint32_t value, std::uint32_t most) {
  return least <= value && value <= most;
}

const char* wrong_parameter(const Parameters& p) {
  if (!between(1, p.max_outstanding_r2t, max_outstanding_r2t)) return "MaxOutstandingR2T";
  if (!between(segment_least, p.initiator_max_receive, segment_most)) {
    return "MaxRecvDataSegmentLength";
  }
  if (!between(segment_least, p.max_burst_length, max_burst)) return "MaxBurstLength";
  if (!between(segment_least, p.first_burst_length, p.max_burst_length)) return "FirstBurstLength";
  if (p.time_to_wait > time_most) return "DefaultTime2Wait";
  if (p.time_to_retain > time_most) return "DefaultTime2Retain";
  return nullptr;
}

std::string get_name(ByteReader& in, std::size_t length) {
  Bytes bytes = in.get_bytes(length);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

std::vector<std::byte> encode(const SessionState& s) {
  ASSERT(valid_iscsi_name(s.initiator_name) && s.target_name.size() <= 255);
  const auto& p = s.parameters;
  auto flags = static_cast<std::uint8_t>(
      (s.discovery ? discovery : 0) | (p.header_digest ? header_digest : 0) |
      (p.data_digest ? data_digest : 0) | (p.initial_r2t ? initial_r2t : 0) |
      (p.immediate_data ? immediate_data : 0));
  ByteWriter out;
  out.put(magic);
  out.put(version);
  out.put(static_cast<std::uint16_t>(fixed_size + s.initiator_name.size() + s.target_name.size() +
                                     crc_size));
  out.put(flags);
  out.put(static_cast<std::uint8_t>(s.initiator_name.size()));
  out.put(static_cast<std::uint8_t>(s.target_name.size()));
  out.put(std::uint8_t{0});
  out.put_bytes(std::as_bytes(std::span(s.isid)));
  out.put(s.tsih);
  out.put(s.connection_id);
  out.put(s.portal_group_tag);
  out.put(s.relative_target_port);
  out.put(static_cast<std::uint16_t>(p.max_outstanding_r2t));
  out.put(p.initiator_max_receive);
  out.put(p.max_burst_length);
  out.put(p.first_burst_length);
  out.put(static_cast<std::uint16_t>(p.time_to_wait));
  out.put(static_cast<std::uint16_t>(p.time_to_retain));
  out.put(s.exp_cmd_sn);
  out.put(s.stat_sn);
  out.put(s.next_target_transfer_tag);
  out.put_bytes(std::as_bytes(std::span(s.initiator_name)));
  out.put_bytes(std::as_bytes(std::span(s.target_name)));
  auto bytes = out.take();
  ByteWriter crc;
  crc.put(crc32c(bytes));
  auto end = crc.take();
  bytes.insert(bytes.end(), end.begin(), end.end());
  return bytes;
}

Result<SessionState> decode_session_state(Bytes bytes) {
  ByteReader in(bytes);
  if (in.get<std::uint32_t>() != magic) return bad("not one");
  if (in.get<std::uint16_t>() != version) {
    return fail(ErrorCode::unsupported_version, "session state: unknown version");
  }
  if (in.get<std::uint16_t>() != bytes.size() || bytes.size() < fixed_size + crc_size) {
    return bad("length");
  }
  Bytes checked = bytes.first(bytes.size() - crc_size);
  if (load_le<std::uint32_t>(bytes.data() + checked.size()) != crc32c(checked)) return bad("CRC");
  SessionState s;
  auto& p = s.parameters;
  auto flags = in.get<std::uint8_t>();
  s.discovery = (flags & discovery) != 0;
  p.header_digest = (flags & header_digest) != 0;
  p.data_digest = (flags & data_digest) != 0;
  p.initial_r2t = (flags & initial_r2t) != 0;
  p.immediate_data = (flags & immediate_data) != 0;
  std::size_t initiator_length = in.get<std::uint8_t>();
  std::size_t target_length = in.get<std::uint8_t>();
  auto zero = in.get<std::uint8_t>();
  Bytes isid = in.get_bytes(s.isid.size());
  std::ranges::transform(isid, s.isid.begin(),
                         [](std::byte b) { return std::to_integer<std::uint8_t>(b); });
  s.tsih = in.get<std::uint16_t>();
  s.connection_id = in.get<std::uint16_t>();
  s.portal_group_tag = in.get<std::uint16_t>();
  s.relative_target_port = in.get<std::uint16_t>();
  p.max_outstanding_r2t = in.get<std::uint16_t>();
  p.initiator_max_receive = in.get<std::uint32_t>();
  p.max_burst_length = in.get<std::uint32_t>();
  p.first_burst_length = in.get<std::uint32_t>();
  p.time_to_wait = in.get<std::uint16_t>();
  p.time_to_retain = in.get<std::uint16_t>();
  s.exp_cmd_sn = in.get<std::uint32_t>();
  s.stat_sn = in.get<std::uint32_t>();
  s.next_target_transfer_tag = in.get<std::uint32_t>();
  s.initiator_name = get_name(in, initiator_length);
  s.target_name = get_name(in, target_length);
  if (!in.ok() || in.remaining() != crc_size) return bad("length of a name");
  if ((flags & ~all_flags) != 0 || zero != 0) return bad("unused bits");
  if (s.tsih == 0) return bad("session handle");
  if (s.relative_target_port == 0) return bad("target port");
  if (const char* name = wrong_parameter(p)) return bad(name);
  if (!valid_iscsi_name(s.initiator_name)) return bad("name of the initiator");
  if (s.target_name.empty() ? !s.discovery : !valid_iscsi_name(s.target_name)) {
    return bad("name of the target");
  }
  return s;
}

}  // namespace duet::iscsi
