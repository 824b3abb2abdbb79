#include "iscsi/stored_request.h"

#include <algorithm>

#include "base/assert.h"
#include "iscsi/text.h"

namespace duet::iscsi {
namespace {

constexpr std::uint8_t version = 1;

std::unexpected<Error> poison(const char* what) {
  return fail(ErrorCode::invalid, std::string("stored request: ") + what);
}

}  // namespace

std::vector<std::byte> encode(const StoredRequest& request) {
  ASSERT(valid_iscsi_name(request.initiator_name));
  ByteWriter out;
  out.put(version);
  out.put(static_cast<std::uint8_t>(request.initiator_name.size()));
  out.put(request.relative_target_port);
  out.put(request.initiator_task_tag);
  out.put(request.lun_field);
  out.put_bytes(std::as_bytes(std::span(request.cdb)));
  out.put_bytes(std::as_bytes(std::span(request.isid)));
  out.put(std::uint16_t{0});
  out.put_bytes(std::as_bytes(std::span(request.initiator_name)));
  return out.take();
}

Result<StoredRequest> decode_stored_request(Bytes bytes) {
  ByteReader in(bytes);
  StoredRequest request;
  if (in.get<std::uint8_t>() != version) {
    return fail(ErrorCode::unsupported_version, "stored request: unknown version");
  }
  std::size_t name_length = in.get<std::uint8_t>();
  request.relative_target_port = in.get<std::uint16_t>();
  request.initiator_task_tag = in.get<std::uint32_t>();
  request.lun_field = in.get<std::uint64_t>();
  Bytes cdb = in.get_bytes(request.cdb.size());
  Bytes isid = in.get_bytes(request.isid.size());
  auto zero = in.get<std::uint16_t>();
  Bytes name = in.get_bytes(name_length);
  if (!in.ok() || in.remaining() != 0) return poison("length");
  if (zero != 0) return poison("unused bytes");
  if (request.relative_target_port == 0) return poison("target port");
  std::ranges::transform(cdb, request.cdb.begin(),
                         [](std::byte b) { return std::to_integer<std::uint8_t>(b); });
  std::ranges::transform(isid, request.isid.begin(),
                         [](std::byte b) { return std::to_integer<std::uint8_t>(b); });
  request.initiator_name.assign(reinterpret_cast<const char*>(name.data()), name.size());
  if (!valid_iscsi_name(request.initiator_name)) return poison("name of the initiator");
  return request;
}

}  // namespace duet::iscsi
