#include "raid/stripe_journal.h"

#include "base/assert.h"
#include "base/crc32c.h"

namespace duet::raid {
namespace {

constexpr std::uint32_t magic = 0x314a5344;  // "DSJ1"
constexpr std::uint16_t format_version = 1;
constexpr std::size_t header_size = 40;
constexpr std::size_t failure_size = 24;
constexpr std::size_t stripe_size = 16;
constexpr std::size_t crc_at = 12;
static_assert(header_size + max_record_failures * failure_size +
                  max_record_stripes * (stripe_size + std::size_t{2} * block_size) <=
              max_record_bytes);

std::uint32_t checksum(Bytes record) {
  const std::byte zeros[4]{};
  const auto crc = crc32c_extend(crc32c(record.first(crc_at)), zeros);
  return crc32c_extend(crc, record.subspan(crc_at + sizeof zeros));
}

}  // namespace

DataBytes encode(const JournalRecord& record) {
  ASSERT(record.stripes.size() <= max_record_stripes);
  ASSERT(record.failures.size() <= max_record_failures);
  ByteWriter out;
  out.put(magic);
  out.put(format_version);
  out.put(std::uint16_t{0});
  out.put(std::uint32_t{0});  // size
  out.put(std::uint32_t{0});  // CRC32C
  out.put(record.generation);
  out.put(record.sequence);
  out.put(static_cast<std::uint16_t>(record.stripes.size()));
  out.put(static_cast<std::uint16_t>(record.failures.size()));
  out.put(std::uint32_t{0});
  for (const JournalFailure& failure : record.failures) {
    out.put(failure.member);
    out.put(std::uint32_t{0});
    out.put_bytes(std::as_bytes(std::span(failure.disk.bytes)));
  }
  for (const JournalStripe& stripe : record.stripes) {
    out.put(stripe.group);
    out.put(static_cast<std::uint16_t>(stripe.q.bytes.empty() ? 1 : 2));
    out.put(stripe.written);
    out.put(stripe.stripe);
  }
  const auto head = out.take();
  DataBytes bytes(head.begin(), head.end());
  for (const JournalStripe& stripe : record.stripes) {
    ASSERT(stripe.p.bytes.size() == block_size);
    for (const Slice* parity : {&stripe.p, &stripe.q}) {
      bytes.insert(bytes.end(), parity->bytes.begin(), parity->bytes.end());
    }
  }
  store_le(bytes.data() + 8, static_cast<std::uint32_t>(bytes.size()));
  store_le(bytes.data() + crc_at, checksum(bytes));
  return bytes;
}

std::uint64_t journal_blocks(Bytes bytes) {
  if (bytes.size() < header_size || load_le<std::uint32_t>(bytes.data()) != magic) return 0;
  const auto size = load_le<std::uint32_t>(bytes.data() + 8);
  if (size < header_size || size > max_record_bytes) return 0;
  return (size + block_size - 1) / block_size;
}

Result<JournalRecord> decode_journal(const Slice& record) {
  const auto invalid = [](const char* why) { return fail(ErrorCode::invalid, why); };
  if (journal_blocks(record.bytes) == 0) return invalid("not a stripe journal record");
  const std::size_t size = load_le<std::uint32_t>(record.bytes.data() + 8);
  if (size > record.bytes.size()) return invalid("a stripe journal record is cut off");
  const Bytes bytes = record.bytes.first(size);
  if (checksum(bytes) != load_le<std::uint32_t>(bytes.data() + crc_at)) {
    return invalid("a stripe journal record has a wrong checksum");
  }
  ByteReader in(bytes);
  in.get_bytes(4);
  const auto version = in.get<std::uint16_t>();
  in.get_bytes(10);
  JournalRecord result;
  result.generation = in.get<std::uint64_t>();
  result.sequence = in.get<std::uint64_t>();
  const std::size_t stripes = in.get<std::uint16_t>();
  const std::size_t failures = in.get<std::uint16_t>();
  in.get<std::uint32_t>();
  if (version != format_version || stripes > max_record_stripes || failures > max_record_failures) {
    return invalid("a stripe journal record of a version that we do not speak");
  }
  for (std::size_t i = 0; i < failures && in.ok(); ++i) {
    JournalFailure failure;
    failure.member = in.get<std::uint32_t>();
    in.get<std::uint32_t>();
    const Bytes disk = in.get_bytes(failure.disk.bytes.size());
    if (in.ok()) std::memcpy(failure.disk.bytes.data(), disk.data(), disk.size());
    result.failures.push_back(failure);
  }
  std::vector<std::uint16_t> parities;
  for (std::size_t i = 0; i < stripes && in.ok(); ++i) {
    JournalStripe stripe;
    stripe.group = in.get<std::uint16_t>();
    parities.push_back(in.get<std::uint16_t>());
    stripe.written = in.get<std::uint32_t>();
    stripe.stripe = in.get<std::uint64_t>();
    if (parities.back() < 1 || parities.back() > 2) return invalid("a stripe without parity");
    result.stripes.push_back(stripe);
  }
  for (std::size_t i = 0; i < result.stripes.size() && in.ok(); ++i) {
    result.stripes[i].p = {record.owner, in.get_bytes(block_size)};
    if (parities[i] == 2) result.stripes[i].q = {record.owner, in.get_bytes(block_size)};
  }
  if (!in.ok() || in.remaining() != 0) return invalid("a stripe journal record of another size");
  return result;
}

}  // namespace duet::raid
