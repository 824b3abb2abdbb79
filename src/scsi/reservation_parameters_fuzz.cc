// Parameter lists of PERSISTENT RESERVE OUT: decoded, applied, reported.
#include "scsi/reservation_parameters.h"

using namespace duet;
using namespace duet::scsi;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Reservations state;
  ByteReader in(std::as_bytes(std::span(data, size)));
  while (in.ok() && in.remaining() >= 4) {
    PersistentReserveOut command{};
    const auto first = in.get<std::uint8_t>();
    command.action = static_cast<PersistentReserveOut::ServiceAction>(first & 7);
    command.type = in.get<std::uint8_t>() & 0x0f;
    command.length = in.get<std::uint16_t>();
    const Bytes list = in.get_bytes(std::min<std::size_t>(command.length, in.remaining()));
    const auto request = decode_reservation_request(command, list);
    if (!request) continue;
    const Nexus nexus{(first & 8) != 0 ? "red" : "blue", {}, 1};
    (void)state.apply(*request, nexus, 3);
    ASSERT(Reservations::parse(state.serialize()).value() == state);
    for (int action = 0; action < 4; ++action)
      (void)encode_reservation_report(static_cast<PersistentReserveIn::ServiceAction>(action),
                                      state);
    for (const auto& registration : state.registrations())
      ASSERT(decode_transport_id(encode_transport_id(registration.nexus)).has_value());
  }
  return 0;
}
