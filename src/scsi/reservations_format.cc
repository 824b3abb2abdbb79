// Serialized form of the reservations: docs/formats/reservations.md.
#include <algorithm>
#include <set>

#include "base/crc32c.h"
#include "scsi/reservations.h"

namespace duet::scsi {

namespace {

constexpr std::uint32_t magic = 0x56535244;  // "DRSV"
constexpr std::uint16_t version = 1;
constexpr std::uint32_t no_holder = 0xffffffff;
constexpr std::uint8_t persists_flag = 1;

auto invalid(const char* what) {
  return fail(ErrorCode::invalid, std::string("reservations: ") + what);
}

}  // namespace

std::vector<std::byte> Reservations::serialize() const {
  std::uint32_t holder = no_holder;
  if (reservation_ && !all_registrants(reservation_->type)) {
    const auto* registration = find(reservation_->holder);
    ASSERT(registration);
    holder = static_cast<std::uint32_t>(registration - registrations_.data());
  }
  ByteWriter out;
  out.put(magic);
  out.put(version);
  out.put(static_cast<std::uint8_t>(persists_ ? persists_flag : 0));
  out.put(
      static_cast<std::uint8_t>(reservation_ ? static_cast<std::uint8_t>(reservation_->type) : 0));
  out.put(generation_);
  out.put(static_cast<std::uint32_t>(registrations_.size()));
  out.put(holder);
  for (const auto& registration : registrations_) {
    out.put(registration.key.value());
    out.put(registration.nexus.relative_target_port);
    out.put_bytes(std::as_bytes(std::span(registration.nexus.isid)));
    const auto& name = registration.nexus.initiator_name;
    out.put(static_cast<std::uint16_t>(name.size()));
    out.put_bytes(std::as_bytes(std::span(name)));
  }
  auto bytes = out.take();
  ByteWriter tail;
  tail.put(crc32c(bytes));
  const auto crc = tail.take();
  bytes.insert(bytes.end(), crc.begin(), crc.end());
  return bytes;
}

Result<Reservations> Reservations::parse(Bytes bytes) {
  if (bytes.size() < sizeof(std::uint32_t)) return invalid("too short");
  const Bytes body = bytes.first(bytes.size() - sizeof(std::uint32_t));
  if (load_le<std::uint32_t>(&bytes[body.size()]) != crc32c(body)) return invalid("wrong checksum");
  ByteReader in(body);
  if (in.get<std::uint32_t>() != magic) return invalid("not reservations");
  if (const auto v = in.get<std::uint16_t>(); v != version)
    return fail(ErrorCode::unsupported_version, "reservations of version " + std::to_string(v));
  const auto flags = in.get<std::uint8_t>();
  const auto type = in.get<std::uint8_t>();
  Reservations r;
  r.generation_ = in.get<std::uint32_t>();
  const auto count = in.get<std::uint32_t>();
  const auto holder = in.get<std::uint32_t>();
  if (!in.ok() || flags > persists_flag || count > max_registrations) return invalid("bad header");
  r.persists_ = flags == persists_flag;

  std::set<Nexus> seen;
  for (std::uint32_t i = 0; i < count; ++i) {
    Registration registration;
    registration.key = ReservationKey(in.get<std::uint64_t>());
    registration.nexus.relative_target_port = in.get<std::uint16_t>();
    const Bytes isid = in.get_bytes(registration.nexus.isid.size());
    const auto name_size = in.get<std::uint16_t>();
    const Bytes name = in.get_bytes(name_size);
    if (!in.ok() || name_size > max_initiator_name) return invalid("bad registration");
    std::memcpy(registration.nexus.isid.data(), isid.data(), isid.size());
    registration.nexus.initiator_name.assign(reinterpret_cast<const char*>(name.data()),
                                             name.size());
    if (registration.key.value() == 0 || registration.nexus.relative_target_port == 0 ||
        !seen.insert(registration.nexus).second)
      return invalid("impossible registration");
    r.registrations_.push_back(std::move(registration));
  }
  if (in.remaining() != 0) return invalid("trailing bytes");

  const auto held = reservation_type(type);
  if (type != 0 && !held) return invalid("unknown type");
  const bool one_holder = held && !all_registrants(*held);
  if (one_holder ? holder >= count : holder != no_holder) return invalid("impossible holder");
  if (held && count == 0) return invalid("reservation without registration");
  if (held)
    r.reservation_ = Reservation{*held, one_holder ? r.registrations_[holder].nexus : Nexus{}};
  return r;
}

}  // namespace duet::scsi
