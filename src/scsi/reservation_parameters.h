// Parameter data of PERSISTENT RESERVE OUT and IN (SPC-4 6.16, 6.15) and iSCSI TransportIDs (SPC-4
// 7.6.4.6).
#pragma once

#include <expected>
#include <vector>

#include "scsi/reservations.h"

namespace duet::scsi {

// At most one TransportID per registration we could hold.
inline constexpr std::size_t max_reservation_parameters = 28 + max_registrations * 256;

// `list`: as many bytes as command.length says.
std::expected<ReservationRequest, Sense> decode_reservation_request(
    const PersistentReserveOut& command, Bytes list);

// Parameter data, whole: the caller cuts it to the allocation length.
std::vector<std::byte> encode_reservation_report(PersistentReserveIn::ServiceAction action,
                                                 const Reservations& reservations);

// Of an initiator port (format 01b). Decoding gives the bytes used too, and nothing for a malformed
// one, another protocol, or a device name without ISID (00b), which names no I_T nexus.
std::vector<std::byte> encode_transport_id(const Nexus& nexus);
struct DecodedTransportId {
  Nexus nexus;
  std::size_t size;
};
std::optional<DecodedTransportId> decode_transport_id(Bytes bytes);

}  // namespace duet::scsi
