#include "scsi/sense.h"

namespace duet::scsi {

std::vector<std::byte> encode_fixed(const Sense& sense) {
  std::vector<std::byte> b(fixed_sense_size);
  b[0] = std::byte{0x70};  // current, fixed format
  b[2] = static_cast<std::byte>(sense.key);
  if (sense.information) {
    b[0] |= std::byte{0x80};  // VALID
    store_be(&b[3], *sense.information);
  }
  b[7] = std::byte{fixed_sense_size - 8};
  b[12] = std::byte{sense.asc};
  b[13] = std::byte{sense.ascq};
  if (sense.cdb_byte) {
    b[15] = std::byte{0xc0};  // SKSV, C/D
    store_be(&b[16], *sense.cdb_byte);
  }
  return b;
}

Response check_condition(const Sense& sense) {
  return {.status = StatusCode::check_condition, .sense = encode_fixed(sense), .data_in = {}};
}

}  // namespace duet::scsi
