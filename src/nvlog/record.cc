#include "nvlog/record.h"

#include "base/crc32c.h"

namespace duet::nvlog {
namespace {
constexpr std::uint32_t magic = 0x314c4e44;  // "DNL1"
constexpr std::size_t crc_at = 4;
constexpr std::size_t crc_from = 8;
constexpr std::uint16_t open_unknown = 0xffff;

bool known(std::uint8_t kind) {
  return kind >= first_opaque_kind || kind == static_cast<std::uint8_t>(RecordKind::wrap) ||
         kind == static_cast<std::uint8_t>(RecordKind::epoch_start);
}
}  // namespace

LogSequence RecordHeader::proves_acknowledged() const {
  std::uint64_t before = sequence.value() - 1;
  if (open_before == open_unknown || open_before > before) return LogSequence(0);
  return LogSequence(before - open_before);
}

HeaderBytes encode(const RecordHeader& header) {
  HeaderBytes out;
  store_le(&out[0], magic);
  store_le(&out[4], std::uint32_t{0});
  store_le(&out[8], header.length);
  store_le(&out[12], static_cast<std::uint8_t>(header.kind));
  store_le(&out[13], header.identity.value());
  store_le(&out[14], header.open_before);
  store_le(&out[16], header.epoch.value());
  store_le(&out[24], header.sequence.value());
  for (std::size_t i = 0; i < 4; ++i) store_le(&out[32 + 8 * i], header.words[i]);
  return out;
}

std::uint32_t start_crc(const HeaderBytes& header) {
  return crc32c(Bytes(header).subspan(crc_from));
}

void seal(HeaderBytes& header, std::uint32_t crc, std::uint64_t lap) {
  std::array<std::byte, 8> lap_bytes;
  store_le(lap_bytes.data(), lap);
  store_le(&header[crc_at], crc32c_extend(crc, lap_bytes));
}

std::optional<RecordHeader> peek_header(Bytes ring, std::uint64_t address) {
  std::uint64_t offset = address % ring.size();
  if (ring.size() - offset < record_header_size) return std::nullopt;
  const std::byte* p = &ring[offset];
  if (load_le<std::uint32_t>(p) != magic) return std::nullopt;
  auto kind = load_le<std::uint8_t>(p + 12);
  auto identity = load_le<std::uint8_t>(p + 13);
  if (!known(kind) || identity < 1 || identity > 2) return std::nullopt;
  RecordHeader header{static_cast<RecordKind>(kind),
                      NodeId(identity),
                      load_le<std::uint16_t>(p + 14),
                      load_le<std::uint32_t>(p + 8),
                      Epoch(load_le<std::uint64_t>(p + 16)),
                      LogSequence(load_le<std::uint64_t>(p + 24)),
                      {}};
  for (std::size_t i = 0; i < 4; ++i) header.words[i] = load_le<std::uint64_t>(p + 32 + 8 * i);
  if (header.length > max_payload || header.sequence.value() == 0 ||
      header.sequence.value() >= sequence_limit)
    return std::nullopt;
  if (stored_size(header.length) > ring.size() - offset) return std::nullopt;
  return header;
}

std::optional<RecordView> read_record(Bytes ring, std::uint64_t address) {
  auto header = peek_header(ring, address);
  if (!header) return std::nullopt;
  std::uint64_t offset = address % ring.size();
  std::uint64_t lap = address / ring.size();
  Bytes payload = ring.subspan(offset + record_header_size, header->length);
  std::array<std::byte, 8> lap_bytes;
  store_le(lap_bytes.data(), lap);
  std::uint32_t crc = crc32c(ring.subspan(offset + crc_from, record_header_size - crc_from));
  crc = crc32c_extend(crc32c_extend(crc, payload), lap_bytes);
  if (crc != load_le<std::uint32_t>(&ring[offset + crc_at])) return std::nullopt;
  std::uint64_t end = header->kind == RecordKind::wrap ? (lap + 1) * ring.size()
                                                       : address + stored_size(header->length);
  return RecordView{*header, payload, address, end};
}

}  // namespace duet::nvlog
