#include "ha/messages.h"

#include <algorithm>
#include <array>
#include <span>

namespace duet::ha {
namespace {

constexpr std::uint16_t version = 1;

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};

ReasonCodes get_codes(ByteReader& r) {
  ReasonCodes codes;
  auto bytes = r.get_bytes(codes.size());
  std::ranges::transform(bytes, codes.begin(),
                         [](std::byte b) { return std::to_integer<std::uint8_t>(b); });
  return codes;
}

// What is not read here must be 0: the caller compares with the encoding of what was read.
Result<decltype(Message::body)> decode_body(std::uint8_t kind, ByteReader& r) {
  switch (kind) {
    case 1: {
      MirrorOffer offer;
      offer.port = r.get<std::uint16_t>();
      auto flags = r.get<std::uint8_t>();
      if (flags > 1) return fail(ErrorCode::invalid, "unknown flags");
      offer.persistent = flags == 1;
      r.get_bytes(5);
      offer.nvram = r.get<std::uint64_t>();
      offer.number = r.get<std::uint64_t>();
      if (offer.port == 0 || offer.nvram == 0) return fail(ErrorCode::invalid, "empty offer");
      return offer;
    }
    case 2:
      return PanicNotice{};
    case 3:
      return PleaseDie{Epoch(r.get<std::uint64_t>())};
    case 4: {
      PleaseShutdown please{.left_ms = r.get<std::uint32_t>(), .attempt = 0};
      r.get<std::uint32_t>();
      please.attempt = r.get<std::uint64_t>();
      return please;
    }
    case 5: {
      PleaseTakeover please{.countdown_ms = r.get<std::uint32_t>()};
      auto flags = r.get<std::uint32_t>();
      please.force = (flags & 1) != 0;
      please.unwell = (flags & 2) != 0;
      please.number = r.get<std::uint64_t>();
      please.overrides = get_codes(r);
      return please;
    }
    case 6: {
      TakeoverRefused refused{.number = 0, .reasons = get_codes(r)};
      refused.number = r.get<std::uint64_t>();
      return refused;
    }
    case 7:
      r.get<std::uint64_t>();
      return CancelShutdown{r.get<std::uint64_t>()};
    case 8: {
      ShutdownDeclined declined{.reason = static_cast<std::uint8_t>(r.get<std::uint64_t>())};
      declined.attempt = r.get<std::uint64_t>();
      return declined;
    }
    case 9:
      r.get<std::uint64_t>();
      return ForcedTakeover{r.get<std::uint64_t>()};
    case 10:
      return Departed{};
    case 11:
      return GivenBack{};
    default:
      return fail(ErrorCode::unsupported_version,
                  "message of unknown kind " + std::to_string(kind));
  }
}

}  // namespace

std::vector<std::byte> encode(const Message& m) {
  ASSERT(m.sender == NodeId(1) || m.sender == NodeId(2));
  ASSERT(m.sender_nonce != BootNonce(0) && m.addressee != BootNonce(0));
  ByteWriter w;
  w.put(version);
  w.put(static_cast<std::uint8_t>(m.body.index() + 1));
  w.put(m.sender.value());
  w.put(static_cast<std::uint32_t>(message_size));
  w.put(m.cluster.value());
  w.put(m.sender_nonce.value());
  w.put(m.sender_epoch.value());
  w.put(m.addressee.value());
  std::visit(Overloaded{
                 [&](const MirrorOffer& offer) {
                   w.put(offer.port);
                   w.put(static_cast<std::uint8_t>(offer.persistent));
                   w.put_bytes(std::array<std::byte, 5>{});
                   w.put(offer.nvram);
                   w.put(offer.number);
                 },
                 [](const PanicNotice&) {},
                 [&](const PleaseDie& die) { w.put(die.epoch.value()); },
                 [&](const PleaseShutdown& please) {
                   w.put(please.left_ms);
                   w.put(std::uint32_t{0});
                   w.put(please.attempt);
                 },
                 [&](const PleaseTakeover& please) {
                   w.put(please.countdown_ms);
                   w.put((please.force ? 1U : 0U) | (please.unwell ? 2U : 0U));
                   w.put(please.number);
                   w.put_bytes(std::as_bytes(std::span(please.overrides)));
                 },
                 [&](const TakeoverRefused& refused) {
                   w.put_bytes(std::as_bytes(std::span(refused.reasons)));
                   w.put(refused.number);
                 },
                 [&](const CancelShutdown& cancel) {
                   w.put(std::uint64_t{0});
                   w.put(cancel.attempt);
                 },
                 [&](const ShutdownDeclined& declined) {
                   w.put(static_cast<std::uint64_t>(declined.reason));
                   w.put(declined.attempt);
                 },
                 [&](const ForcedTakeover& forced) {
                   w.put(std::uint64_t{0});
                   w.put(forced.attempt);
                 },
                 [](const Departed&) {},
                 [](const GivenBack&) {},
             },
             m.body);
  auto bytes = w.take();
  bytes.resize(message_size);
  return bytes;
}

Result<Message> decode_message(Bytes bytes) {
  if (bytes.size() < 2) return fail(ErrorCode::invalid, "message too short");
  ByteReader r(bytes);
  if (auto v = r.get<std::uint16_t>(); v != version) {
    return fail(ErrorCode::unsupported_version, "message of version " + std::to_string(v));
  }
  if (bytes.size() != message_size) return fail(ErrorCode::invalid, "message not of 64 bytes");
  auto kind = r.get<std::uint8_t>();
  Message m;
  m.sender = NodeId(r.get<std::uint8_t>());
  auto size = r.get<std::uint32_t>();
  m.cluster = ClusterId(r.get<std::uint64_t>());
  m.sender_nonce = BootNonce(r.get<std::uint64_t>());
  m.sender_epoch = Epoch(r.get<std::uint64_t>());
  m.addressee = BootNonce(r.get<std::uint64_t>());
  auto body = decode_body(kind, r);
  if (!body) return std::unexpected(body.error());
  m.body = *body;
  if (size != message_size || (m.sender != NodeId(1) && m.sender != NodeId(2)) ||
      m.sender_nonce == BootNonce(0) || m.addressee == BootNonce(0)) {
    return fail(ErrorCode::invalid, "a field breaks its rule");
  }
  // Nothing hides in unused bytes.
  if (!std::ranges::equal(encode(m), bytes)) return fail(ErrorCode::invalid, "unused bytes not 0");
  return m;
}

}  // namespace duet::ha
