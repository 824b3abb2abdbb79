// Negotiation of operational parameters (RFC 7143 section 13): one table of keys, each with its
// rule.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "iscsi/limits.h"
#include "iscsi/text.h"

namespace duet::iscsi {

// Results, at first the defaults of RFC 7143.
struct Parameters {
  bool header_digest = false;  // CRC32C or None
  bool data_digest = false;
  std::uint32_t initiator_max_receive = 8192;  // what the initiator takes in a data segment
  std::uint32_t max_burst_length = 262144;
  std::uint32_t first_burst_length = 65536;
  std::uint32_t max_outstanding_r2t = 1;
  bool initial_r2t = true;
  bool immediate_data = true;
  std::uint32_t time_to_wait = 2;
  std::uint32_t time_to_retain = 20;
  bool operator==(const Parameters&) const = default;
};

enum class NegotiationError : std::uint8_t { none, protocol_error };

// The negotiation of one login. Each key is negotiated at most once; doing it again is a protocol
// error, as is a value outside its key's range.
class Negotiation {
 public:
  // Takes one proposal or declaration of the initiator; adds our answer, if it needs one, to
  // `answers`. Keys of the login itself (InitiatorName, ...) are not for here.
  NegotiationError take(const KeyValue& offer, std::vector<KeyValue>& answers);
  // What we declare unasked; once.
  void declare(std::vector<KeyValue>& answers);
  // Requires: nothing more to negotiate. Settles what depends on several keys.
  Parameters result() const;

 private:
  Parameters parameters_;
  std::set<std::string, std::less<>> seen_;
  bool declared_ = false;
};

}  // namespace duet::iscsi
