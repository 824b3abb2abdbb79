#include "scsi/reservation_parameters.h"

#include <charconv>

namespace duet::scsi {

namespace {

constexpr std::uint8_t iscsi_protocol = 0x05;
constexpr std::uint8_t port_format = 0x40;
constexpr std::string_view separator = ",i,0x";
constexpr std::size_t basic_list = 24;

std::uint8_t at(Bytes b, std::size_t i) {
  return std::to_integer<std::uint8_t>(b[i]);
}

void put_be(std::vector<std::byte>& out, std::uint64_t value, int bytes) {
  for (int i = bytes - 1; i >= 0; --i) out.push_back(static_cast<std::byte>(value >> (8 * i)));
}

bool decode_isid(std::string_view digits, std::array<std::uint8_t, 6>& isid) {
  if (digits.size() != 12) return false;
  std::uint64_t value = 0;
  auto [end, error] = std::from_chars(digits.begin(), digits.end(), value, 16);
  if (error != std::errc{} || end != digits.end()) return false;
  for (std::size_t i = 0; i < 6; ++i) isid[i] = static_cast<std::uint8_t>(value >> (40 - 8 * i));
  return true;
}

// The TransportIDs after the 4-byte TRANSPORTID PARAMETER DATA LENGTH.
std::expected<std::vector<Nexus>, Sense> decode_transport_ids(Bytes rest) {
  if (rest.size() < 4) return std::unexpected(sense::parameter_list_length_error);
  const auto length = load_be<std::uint32_t>(rest.data());
  rest = rest.subspan(4);
  if (length != rest.size()) return std::unexpected(sense::parameter_list_length_error);
  std::vector<Nexus> ids;
  while (!rest.empty()) {
    auto id = decode_transport_id(rest);
    if (!id || ids.size() == max_registrations)
      return std::unexpected(sense::invalid_field_in_parameters);
    ids.push_back(std::move(id->nexus));
    rest = rest.subspan(id->size);
  }
  return ids;
}

// SPC-4 table 216: like the basic list up to the keys, then its own fields.
std::expected<ReservationRequest, Sense> decode_move(ReservationRequest request, Bytes list) {
  if (list.size() < basic_list) return std::unexpected(sense::parameter_list_length_error);
  request.unregister = (at(list, 17) & 2) != 0;
  request.persist = (at(list, 17) & 1) != 0;
  request.relative_target_port = load_be<std::uint16_t>(&list[18]);
  auto ids = decode_transport_ids(list.subspan(20));
  if (!ids) return std::unexpected(ids.error());
  request.transport_ids = std::move(*ids);
  return request;
}

}  // namespace

std::expected<ReservationRequest, Sense> decode_reservation_request(
    const PersistentReserveOut& command, Bytes list) {
  if (list.size() != command.length || list.size() < basic_list ||
      list.size() > max_reservation_parameters)
    return std::unexpected(sense::parameter_list_length_error);
  ReservationRequest request;
  request.action = command.action;
  request.scope = command.scope;
  request.type = command.type;
  request.key = ReservationKey(load_be<std::uint64_t>(&list[0]));
  request.service_action_key = ReservationKey(load_be<std::uint64_t>(&list[8]));
  using ServiceAction = PersistentReserveOut::ServiceAction;
  if (command.action == ServiceAction::register_and_move)
    return decode_move(std::move(request), list);

  const std::uint8_t flags = at(list, 20);
  const bool registers = command.action == ServiceAction::register_key ||
                         command.action == ServiceAction::register_and_ignore;
  request.specified_initiators = (flags & 0x08) != 0;
  if (request.specified_initiators && !registers)
    return std::unexpected(sense::invalid_field_in_parameters);
  request.all_target_ports = registers && (flags & 0x04) != 0;
  request.persist = registers && (flags & 0x01) != 0;
  if (request.specified_initiators) {
    auto ids = decode_transport_ids(list.subspan(basic_list));
    if (!ids) return std::unexpected(ids.error());
    request.transport_ids = std::move(*ids);
  } else if (list.size() != basic_list) {
    return std::unexpected(sense::parameter_list_length_error);
  }
  return request;
}

std::vector<std::byte> encode_transport_id(const Nexus& nexus) {
  std::vector<std::byte> out;
  put_be(out, port_format | iscsi_protocol, 1);
  put_be(out, 0, 3);
  std::string name = nexus.initiator_name;
  name += separator;
  name += to_hex(std::as_bytes(std::span(nexus.isid)));
  const auto* characters = reinterpret_cast<const std::byte*>(name.data());
  out.insert(out.end(), characters, characters + name.size() + 1);  // with its NUL
  while (out.size() % 4 != 0 || out.size() < 24) out.push_back(std::byte{0});
  store_be(&out[2], static_cast<std::uint16_t>(out.size() - 4));
  return out;
}

std::optional<DecodedTransportId> decode_transport_id(Bytes bytes) {
  if (bytes.size() < 24 || at(bytes, 0) != (port_format | iscsi_protocol)) return std::nullopt;
  const std::size_t length = load_be<std::uint16_t>(&bytes[2]);
  if (length < 20 || length % 4 != 0 || length + 4 > bytes.size()) return std::nullopt;
  std::string_view text(reinterpret_cast<const char*>(&bytes[4]), length);
  const auto end = text.find('\0');
  if (end == std::string_view::npos) return std::nullopt;
  text = text.substr(0, end);
  const auto split = text.rfind(separator);
  if (split == std::string_view::npos || split == 0 || split > max_initiator_name)
    return std::nullopt;
  DecodedTransportId id{{}, length + 4};
  id.nexus.initiator_name = text.substr(0, split);
  if (!decode_isid(text.substr(split + separator.size()), id.nexus.isid)) return std::nullopt;
  return id;
}

namespace {

void put_scope_type(std::vector<std::byte>& out, const std::optional<Reservation>& reservation) {
  put_be(out, reservation ? static_cast<std::uint8_t>(reservation->type) : 0, 1);
}

void put_full_status(std::vector<std::byte>& out, const Reservations& reservations) {
  for (const auto& registration : reservations.registrations()) {
    const bool holder = reservations.holds(registration.nexus);
    put_be(out, registration.key.value(), 8);
    put_be(out, 0, 4);
    put_be(out, holder ? 1 : 0, 1);
    put_scope_type(out, holder ? reservations.reservation() : std::nullopt);
    put_be(out, 0, 4);
    put_be(out, registration.nexus.relative_target_port, 2);
    const auto id = encode_transport_id(registration.nexus);
    put_be(out, id.size(), 4);
    out.insert(out.end(), id.begin(), id.end());
  }
}

// SPC-4 table 208.
std::vector<std::byte> capabilities(const Reservations& reservations) {
  std::vector<std::byte> out;
  put_be(out, 8, 2);
  put_be(out, 0x08 | 0x04 | 0x01, 1);                           // SIP_C, ATP_C, PTPL_C
  put_be(out, 0x80u | (reservations.persists() ? 1u : 0u), 1);  // TMV, PTPL_A
  put_be(out, 0xea01, 2);                                       // all six types
  put_be(out, 0, 2);
  return out;
}

}  // namespace

std::vector<std::byte> encode_reservation_report(PersistentReserveIn::ServiceAction action,
                                                 const Reservations& reservations) {
  using ServiceAction = PersistentReserveIn::ServiceAction;
  if (action == ServiceAction::report_capabilities) return capabilities(reservations);
  std::vector<std::byte> out;
  put_be(out, reservations.generation(), 4);
  put_be(out, 0, 4);
  if (action == ServiceAction::read_keys) {
    for (const auto& registration : reservations.registrations())
      put_be(out, registration.key.value(), 8);
  } else if (action == ServiceAction::read_full_status) {
    put_full_status(out, reservations);
  } else if (reservations.reservation()) {
    put_be(out, reservations.holder_key().value(), 8);
    put_be(out, 0, 5);
    put_scope_type(out, reservations.reservation());
    put_be(out, 0, 2);
  }
  store_be(&out[4], static_cast<std::uint32_t>(out.size() - 8));
  return out;
}

}  // namespace duet::scsi
