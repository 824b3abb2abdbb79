#include "ha/health_message.h"

namespace duet::ha {
namespace {

constexpr std::uint16_t version = 1;
constexpr std::uint8_t kind = 33;
constexpr std::size_t header_size = 40;

}  // namespace

std::vector<std::byte> encode(const HealthMessage& m) {
  ASSERT(m.addressee != BootNonce(0));
  ByteWriter w;
  w.put(version);
  w.put(kind);
  w.put(m.record.node.value());
  w.put(static_cast<std::uint32_t>(health_message_size));
  w.put(m.record.cluster.value());
  w.put(m.record.boot.value());
  w.put(m.sender_epoch.value());
  w.put(m.addressee.value());
  w.put_bytes(encode(m.record));
  return w.take();
}

Result<HealthMessage> decode_health_message(Bytes bytes) {
  if (bytes.size() < 2) return fail(ErrorCode::invalid, "message too short");
  ByteReader r(bytes);
  if (auto v = r.get<std::uint16_t>(); v != version) {
    return fail(ErrorCode::unsupported_version, "message of version " + std::to_string(v));
  }
  if (bytes.size() != health_message_size || r.get<std::uint8_t>() != kind) {
    return fail(ErrorCode::invalid, "not a health message");
  }
  auto record = decode_health_record(bytes.subspan(header_size));
  if (!record) return std::unexpected(record.error());
  HealthMessage m;
  m.record = std::move(*record);
  bool consistent = r.get<std::uint8_t>() == m.record.node.value();
  consistent = r.get<std::uint32_t>() == health_message_size && consistent;
  consistent = r.get<std::uint64_t>() == m.record.cluster.value() && consistent;
  consistent = r.get<std::uint64_t>() == m.record.boot.value() && consistent;
  m.sender_epoch = Epoch(r.get<std::uint64_t>());
  m.addressee = BootNonce(r.get<std::uint64_t>());
  if (!consistent || m.addressee == BootNonce(0)) {
    return fail(ErrorCode::invalid, "header and record differ");
  }
  return m;
}

}  // namespace duet::ha
