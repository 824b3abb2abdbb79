// What the two cores tell each other over the control connection. Every message only hastens what
// state structure, mailbox or fence would bring about: losing one is harmless. Foreign when it
// arrives. Format: docs/formats/ha_messages.md.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"

namespace duet::ha {

struct MirrorOffer {
  std::uint16_t port = 0;
  bool persistent = false;
  std::uint64_t nvram = 0;
  std::uint64_t number = 0;  // another number: dial again
  bool operator==(const MirrorOffer&) const = default;
};
struct PanicNotice {  // the sender's engine is dead
  bool operator==(const PanicNotice&) const = default;
};
struct PleaseDie {  // the addressee's identity was taken over under `epoch`
  Epoch epoch;
  bool operator==(const PleaseDie&) const = default;
};
struct PleaseShutdown {
  bool operator==(const PleaseShutdown&) const = default;
};

struct Message {
  ClusterId cluster;
  NodeId sender;
  BootNonce sender_nonce;
  Epoch sender_epoch;
  BootNonce addressee;
  std::variant<MirrorOffer, PanicNotice, PleaseDie, PleaseShutdown> body;
  bool operator==(const Message&) const = default;
};

inline constexpr std::size_t message_size = 64;

// Requires: sender 1 or 2, nonces not 0.
std::vector<std::byte> encode(const Message& message);
// Errors: invalid, unsupported_version.
Result<Message> decode_message(Bytes bytes);

}  // namespace duet::ha
