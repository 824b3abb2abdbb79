// What the two cores tell each other over the control connection. Every message only hastens what
// state structure, mailbox, fence or a countdown would bring about: losing one is harmless. Foreign
// when it arrives. Format: docs/formats/ha_messages.md.
#pragma once

#include <array>
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
// The addressee shall hand over and leave; repeated while the countdown runs.
struct PleaseShutdown {
  std::uint32_t left_ms = 0;  // of the countdown
  std::uint64_t attempt = 0;  // of the sender's boot, from 1
  bool operator==(const PleaseShutdown&) const = default;
};
inline constexpr std::size_t max_message_reasons = 8;
using ReasonCodes = std::array<std::uint8_t, max_message_reasons>;  // unused ones 0
// The sender wants to go; repeated until it is answered.
struct PleaseTakeover {
  std::uint32_t countdown_ms = 0;
  bool force = false;
  bool unwell = false;       // no operator: it cannot serve its clients
  std::uint64_t number = 0;  // of the sender's boot, from 1
  ReasonCodes overrides{};
  bool operator==(const PleaseTakeover&) const = default;
};
struct TakeoverRefused {
  std::uint64_t number = 0;
  ReasonCodes reasons{};
  bool operator==(const TakeoverRefused&) const = default;
};
// From who counts down: serve on. Also the answer to ShutdownDeclined.
struct CancelShutdown {
  std::uint64_t attempt = 0;
  bool operator==(const CancelShutdown&) const = default;
};
// From who was to go: it serves on, or never departed. Also the answer to CancelShutdown.
struct ShutdownDeclined {
  std::uint8_t reason = 0;
  std::uint64_t attempt = 0;  // 0: the takeover that the sender asked for
  bool operator==(const ShutdownDeclined&) const = default;
};
struct ForcedTakeover {  // the countdown is over: stop at once
  std::uint64_t attempt = 0;
  bool operator==(const ForcedTakeover&) const = default;
};
struct Departed {  // the sender's lease is over, its engine answers nobody any more
  bool operator==(const Departed&) const = default;
};

struct GivenBack {  // the mailbox of the addressee's identity says "free": read it now
  bool operator==(const GivenBack&) const = default;
};

struct Message {
  ClusterId cluster;
  NodeId sender;
  BootNonce sender_nonce;
  Epoch sender_epoch;
  BootNonce addressee;
  std::variant<MirrorOffer, PanicNotice, PleaseDie, PleaseShutdown, PleaseTakeover, TakeoverRefused,
               CancelShutdown, ShutdownDeclined, ForcedTakeover, Departed, GivenBack>
      body;
  bool operator==(const Message&) const = default;
};

inline constexpr std::size_t message_size = 64;

// Requires: sender 1 or 2, nonces not 0.
std::vector<std::byte> encode(const Message& message);
// Errors: invalid; unsupported_version: of another version, or of a kind that this one does not
// know.
Result<Message> decode_message(Bytes bytes);

}  // namespace duet::ha
