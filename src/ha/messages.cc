#include "ha/messages.h"

#include <algorithm>

namespace duet::ha {
namespace {

constexpr std::uint16_t version = 1;

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};

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
  std::visit(
      Overloaded{[&](const MirrorOffer& offer) {
                   w.put(offer.port);
                   w.put(static_cast<std::uint8_t>(offer.persistent));
                   w.put_bytes(std::array<std::byte, 5>{});
                   w.put(offer.nvram);
                   w.put(offer.number);
                 },
                 [](const PanicNotice&) {}, [&](const PleaseDie& die) { w.put(die.epoch.value()); },
                 [](const PleaseShutdown&) {}},
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
      m.body = offer;
      break;
    }
    case 2:
      m.body = PanicNotice{};
      break;
    case 3:
      m.body = PleaseDie{Epoch(r.get<std::uint64_t>())};
      break;
    case 4:
      m.body = PleaseShutdown{};
      break;
    default:
      return fail(ErrorCode::invalid, "message of unknown kind " + std::to_string(kind));
  }
  if (size != message_size || (m.sender != NodeId(1) && m.sender != NodeId(2)) ||
      m.sender_nonce == BootNonce(0) || m.addressee == BootNonce(0)) {
    return fail(ErrorCode::invalid, "a field breaks its rule");
  }
  // Nothing hides in unused bytes.
  if (!std::ranges::equal(encode(m), bytes)) return fail(ErrorCode::invalid, "unused bytes not 0");
  return m;
}

}  // namespace duet::ha
