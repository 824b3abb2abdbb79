#include "filesystem/log_record.h"

#include <algorithm>

#include "base/assert.h"

namespace duet::filesystem {
namespace {

using nvlog::RecordKind;

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};

constexpr std::uint64_t reserve_flag = 1;  // word 3 of LUN create

std::uint64_t total_size(const std::vector<Slice>& payload) {
  std::uint64_t size = 0;
  for (const Slice& slice : payload) size += slice.bytes.size();
  return size;
}

std::vector<std::byte> join(const std::vector<Slice>& payload) {
  std::vector<std::byte> bytes;
  bytes.reserve(total_size(payload));
  for (const Slice& slice : payload) {
    bytes.insert(bytes.end(), slice.bytes.begin(), slice.bytes.end());
  }
  return bytes;
}

std::vector<Slice> one_slice(Bytes bytes) {
  if (bytes.empty()) return {};
  return {copy_to_slice(bytes)};
}

void put_short_string(ByteWriter& writer, std::string_view s) {
  writer.put(static_cast<std::uint8_t>(s.size()));
  writer.put_bytes(std::as_bytes(std::span(s)));
}
std::string get_short_string(ByteReader& reader) {
  Bytes bytes = reader.get_bytes(reader.get<std::uint8_t>());
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::unexpected<Error> poison(const char* what) {
  return fail(ErrorCode::invalid, std::string("log record: ") + what);
}

bool is_storage_kind(RecordKind kind) {
  return kind >= RecordKind::write && kind <= RecordKind::reservations;
}

// Offset and length of a write or zero, apart from the size of the LUN, which is not known here.
const char* range_error(std::uint64_t offset, std::uint64_t length, std::uint64_t max_length) {
  if (length == 0 || length > max_length || length % sector_size != 0) return "length";
  if (offset > max_lun_size || offset % sector_size != 0) return "offset";
  return nullptr;
}

Result<Record> decode_create(LunNumber lun, const LogRecord& record) {
  LunCreateRecord create{lun, record.words[1], record.words[2], {}, {}, false};
  if (record.words[3] > reserve_flag) return poison("flags of a LUN");
  create.reserve = record.words[3] == reserve_flag;
  if (create.size == 0 || create.size > max_lun_size || create.size % 4096 != 0) {
    return poison("size of a LUN");
  }
  if (total_size(record.payload) > 2 + max_lun_name + max_lun_serial) return poison("too long");
  std::vector<std::byte> bytes = join(record.payload);
  ByteReader reader(bytes);
  create.name = get_short_string(reader);
  create.serial = get_short_string(reader);
  if (!reader.ok() || reader.remaining() != 0) return poison("length of the payload");
  if (!valid_lun_name(create.name)) return poison("name of a LUN");
  if (!valid_lun_serial(create.serial)) return poison("serial of a LUN");
  return create;
}

}  // namespace

bool valid_lun_name(std::string_view name) {
  return !name.empty() && name.size() <= max_lun_name && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

bool valid_lun_serial(std::string_view serial) {
  return !serial.empty() && serial.size() <= max_lun_serial &&
         std::ranges::all_of(serial, [](char c) { return c > ' ' && c <= '~'; });
}

LogRecord encode(const Record& record) {
  LogRecord out;
  auto set = [&out](RecordKind kind, LunNumber lun, std::uint64_t w1 = 0, std::uint64_t w2 = 0) {
    out.kind = kind;
    out.words = {lun.value(), w1, w2, 0};
  };
  std::visit(Overloaded{
                 [&](const WriteRecord& r) {
                   set(RecordKind::write, r.lun, r.offset);
                   out.payload = r.data;
                 },
                 [&](const ZeroRecord& r) { set(RecordKind::zero, r.lun, r.offset, r.length); },
                 [&](const LunCreateRecord& r) {
                   ASSERT(r.name.size() <= max_lun_name && r.serial.size() <= max_lun_serial);
                   set(RecordKind::lun_create, r.lun, r.size, r.naa);
                   out.words[3] = r.reserve ? reserve_flag : 0;
                   ByteWriter writer;
                   put_short_string(writer, r.name);
                   put_short_string(writer, r.serial);
                   out.payload = one_slice(writer.take());
                 },
                 [&](const LunDeleteRecord& r) { set(RecordKind::lun_delete, r.lun); },
                 [&](const ReservationsRecord& r) {
                   set(RecordKind::reservations, r.lun);
                   out.payload = one_slice(r.state);
                 },
             },
             record);
  return out;
}

Result<Record> decode(const LogRecord& record) {
  if (!is_storage_kind(record.kind)) {
    return fail(
        ErrorCode::unsupported_version,
        "log record: kind " + std::to_string(static_cast<int>(record.kind)) + " is unknown");
  }
  if (record.words[0] > max_lun_number) return poison("LUN number");
  if (record.words[3] != 0 && record.kind != RecordKind::lun_create) return poison("unused word");
  LunNumber lun(static_cast<std::uint16_t>(record.words[0]));
  std::uint64_t size = total_size(record.payload);
  switch (record.kind) {
    case RecordKind::write:
      if (record.words[2] != 0) return poison("unused word");
      if (auto error = range_error(record.words[1], size, max_write_length)) return poison(error);
      return WriteRecord{lun, record.words[1], record.payload};
    case RecordKind::zero:
      if (size != 0) return poison("length of the payload");
      if (auto error = range_error(record.words[1], record.words[2], max_zero_length)) {
        return poison(error);
      }
      return ZeroRecord{lun, record.words[1], record.words[2]};
    case RecordKind::lun_create:
      return decode_create(lun, record);
    case RecordKind::lun_delete:
      if (record.words[1] != 0 || record.words[2] != 0) return poison("unused word");
      if (size != 0) return poison("length of the payload");
      return LunDeleteRecord{lun};
    case RecordKind::reservations:
      if (record.words[1] != 0 || record.words[2] != 0) return poison("unused word");
      if (size > max_reservation_state) return poison("length of the payload");
      return ReservationsRecord{lun, join(record.payload)};
    case RecordKind::wrap:
    case RecordKind::epoch_start:
    case RecordKind::stored_request:
    case RecordKind::stripe_journal:
      break;
  }
  UNREACHABLE();
}

}  // namespace duet::filesystem
