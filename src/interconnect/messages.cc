#include "interconnect/messages.h"

#include <algorithm>

#include "base/crc32c.h"

namespace duet::interconnect {

namespace {

constexpr std::uint16_t magic = 0x4944;  // "DI"

enum class Kind : std::uint8_t {
  hello = 1,
  answer = 2,
  proof = 3,
  welcome = 4,
  client_information = 16,
  ready = 17,
  payload = 18,
};

constexpr std::size_t client_name_size = 32;
constexpr std::size_t software_size = 32;

Error broken(const char* what) {
  return {ErrorCode::invalid, what};
}

void put_text(ByteWriter& w, const std::string& text, std::size_t size) {
  std::vector<std::byte> field(size);
  std::size_t n = std::min(text.size(), size - 1);
  std::memcpy(field.data(), text.data(), n);
  w.put_bytes(field);
}

// Printable ASCII, then zeros to the end; at least one zero.
std::optional<std::string> get_text(ByteReader& r, std::size_t size) {
  Bytes field = r.get_bytes(size);
  if (field.size() != size) return std::nullopt;
  auto end = std::ranges::find(field, std::byte{0});
  bool printable = std::all_of(field.begin(), end, [](std::byte b) {
    return std::to_integer<int>(b) >= 0x20 && std::to_integer<int>(b) < 0x7f;
  });
  bool padded = std::all_of(end, field.end(), [](std::byte b) { return b == std::byte{0}; });
  if (!printable || !padded || end == field.end()) return std::nullopt;
  return std::string(reinterpret_cast<const char*>(field.data()),
                     static_cast<std::size_t>(end - field.begin()));
}

template <std::size_t N>
std::array<std::byte, N> get_array(ByteReader& r) {
  std::array<std::byte, N> a{};
  Bytes bytes = r.get_bytes(N);
  std::ranges::copy(bytes, a.begin());
  return a;
}

bool is_node(NodeId node) {
  return node.value() == 1 || node.value() == 2;
}

void put_body(ByteWriter& w, const Hello& h) {
  w.put(h.versions.lowest);
  w.put(h.versions.highest);
  w.put(h.node.value());
  w.put(static_cast<std::uint8_t>(h.purpose));
  w.put(static_cast<std::uint8_t>(h.verdict));
  w.put(std::uint8_t{0});
  w.put(h.cluster.value());
  w.put(h.nonce.value());
  w.put_bytes(h.challenge);
  put_text(w, h.software, software_size);
}

Result<Frame> get_hello(ByteReader& r, bool from_acceptor) {
  Hello h;
  h.from_acceptor = from_acceptor;
  h.versions.lowest = r.get<std::uint16_t>();
  h.versions.highest = r.get<std::uint16_t>();
  h.node = NodeId(r.get<std::uint8_t>());
  auto purpose = r.get<std::uint8_t>();
  auto verdict = r.get<std::uint8_t>();
  auto reserved = r.get<std::uint8_t>();
  h.cluster = ClusterId(r.get<std::uint64_t>());
  h.nonce = BootNonce(r.get<std::uint64_t>());
  h.challenge = get_array<32>(r);
  auto software = get_text(r, software_size);
  if (!r.ok() || r.remaining() != 0) return std::unexpected(broken("hello: wrong length"));
  if (h.versions.lowest == 0 || h.versions.lowest > h.versions.highest || !is_node(h.node) ||
      purpose < 1 || purpose > 2 || verdict < 1 || verdict > 7 ||
      (!from_acceptor && verdict != 1) || reserved != 0 || h.nonce.value() == 0 || !software) {
    return std::unexpected(broken("hello: a field is out of its range"));
  }
  h.purpose = static_cast<Purpose>(purpose);
  h.verdict = static_cast<Verdict>(verdict);
  h.software = std::move(*software);
  return h;
}

void put_body(ByteWriter& w, const DialerProof& p) {
  w.put_bytes(p.proof);
}

Result<Frame> get_proof(ByteReader& r) {
  DialerProof p{get_array<32>(r)};
  if (!r.ok() || r.remaining() != 0) return std::unexpected(broken("proof: wrong length"));
  return p;
}

void put_body(ByteWriter& w, const Welcome& welcome) {
  w.put_bytes(welcome.proof);
  w.put(static_cast<std::uint8_t>(welcome.verdict));
  w.put_bytes(std::array<std::byte, 7>{});
  for (const auto& grant : welcome.grants) {
    w.put(grant.address);
    w.put(grant.key);
    w.put(grant.first_offset);
    w.put(grant.length);
  }
}

Result<Frame> get_welcome(ByteReader& r) {
  Welcome w;
  w.proof = get_array<32>(r);
  auto verdict = r.get<std::uint8_t>();
  Bytes reserved = r.get_bytes(7);
  for (auto& grant : w.grants) {
    grant.address = r.get<std::uint64_t>();
    grant.key = r.get<std::uint64_t>();
    grant.first_offset = r.get<std::uint64_t>();
    grant.length = r.get<std::uint64_t>();
  }
  if (!r.ok() || r.remaining() != 0) return std::unexpected(broken("welcome: wrong length"));
  bool reserved_ok = std::ranges::all_of(reserved, [](std::byte b) { return b == std::byte{0}; });
  // Sums with the length may not wrap: the dialling side computes with them.
  bool grants_ok = std::ranges::all_of(w.grants, [](const Grant& g) {
    return g.length <= UINT64_MAX - g.address && g.length <= UINT64_MAX - g.first_offset;
  });
  if (verdict < 1 || verdict > 7 || !reserved_ok || !grants_ok) {
    return std::unexpected(broken("welcome: a field is out of its range"));
  }
  w.verdict = static_cast<Verdict>(verdict);
  return w;
}

void put_body(ByteWriter& w, const ClientInformation& information) {
  ASSERT(information.clients.size() <= ports::max_connection_clients);
  w.put(static_cast<std::uint8_t>(information.clients.size()));
  w.put_bytes(std::array<std::byte, 7>{});
  for (const auto& client : information.clients) {
    ASSERT(!client.name.empty() && client.name.size() < client_name_size);
    put_text(w, client.name, client_name_size);
    w.put(client.ports);
    w.put(client.tcp_port);
    w.put(std::uint32_t{0});
    w.put(client.memory);
  }
}

Result<Frame> get_client_information(ByteReader& r) {
  ClientInformation information;
  auto count = r.get<std::uint8_t>();
  Bytes reserved = r.get_bytes(7);
  if (count > ports::max_connection_clients || !r.ok() ||
      std::ranges::any_of(reserved, [](std::byte b) { return b != std::byte{0}; })) {
    return std::unexpected(broken("client information: a field is out of its range"));
  }
  for (int i = 0; i < count; ++i) {
    auto name = get_text(r, client_name_size);
    ports::ConnectionClient client;
    client.ports = r.get<std::uint16_t>();
    client.tcp_port = r.get<std::uint16_t>();
    auto zero = r.get<std::uint32_t>();
    client.memory = r.get<std::uint64_t>();
    if (!r.ok() || !name || name->empty() || zero != 0) {
      return std::unexpected(broken("client information: broken client"));
    }
    client.name = std::move(*name);
    information.clients.push_back(std::move(client));
  }
  if (r.remaining() != 0) return std::unexpected(broken("client information: wrong length"));
  return information;
}

void put_body(ByteWriter& w, const Ready& ready) {
  w.put(ready.session.value());
}

Result<Frame> get_ready(ByteReader& r) {
  Ready ready{Session(r.get<std::uint64_t>())};
  if (!r.ok() || r.remaining() != 0) return std::unexpected(broken("ready: wrong length"));
  return ready;
}

void put_body(ByteWriter& w, const Payload& payload) {
  ASSERT(payload.bytes.size() <= ports::Interconnect::max_message);
  w.put_bytes(payload.bytes);
}

Kind kind_of(const Frame& frame) {
  if (const auto* hello = std::get_if<Hello>(&frame)) {
    return hello->from_acceptor ? Kind::answer : Kind::hello;
  }
  if (std::holds_alternative<DialerProof>(frame)) return Kind::proof;
  if (std::holds_alternative<Welcome>(frame)) return Kind::welcome;
  if (std::holds_alternative<ClientInformation>(frame)) return Kind::client_information;
  if (std::holds_alternative<Ready>(frame)) return Kind::ready;
  return Kind::payload;
}

}  // namespace

std::optional<std::uint16_t> common_version(VersionRange a, VersionRange b) {
  auto highest = std::min(a.highest, b.highest);
  if (highest < std::max(a.lowest, b.lowest)) return std::nullopt;
  return highest;
}

std::string_view name(Verdict verdict) {
  switch (verdict) {
    case Verdict::admitted:
      return "admitted";
    case Verdict::wrong_cluster:
      return "wrong cluster";
    case Verdict::is_self:
      return "is self";
    case Verdict::wrong_node:
      return "wrong node";
    case Verdict::incompatible_version:
      return "incompatible version";
    case Verdict::authentication_failed:
      return "authentication failed";
    case Verdict::not_now:
      return "not now";
  }
  return "?";
}

Session session_of(const Challenge& dialer_challenge) {
  return Session(load_le<std::uint64_t>(dialer_challenge.data()));
}

std::vector<std::byte> encode(const Frame& frame) {
  ByteWriter w;
  w.put(std::uint32_t{0});
  w.put(magic);
  w.put(static_cast<std::uint8_t>(kind_of(frame)));
  w.put(std::uint8_t{0});
  std::visit([&w](const auto& body) { put_body(w, body); }, frame);
  auto bytes = w.take();
  store_le(bytes.data(), crc32c(Bytes(bytes).subspan(4)));
  return bytes;
}

Result<Frame> decode_frame(Bytes bytes) {
  ByteReader r(bytes);
  auto checksum = r.get<std::uint32_t>();
  auto found_magic = r.get<std::uint16_t>();
  auto kind = r.get<std::uint8_t>();
  auto reserved = r.get<std::uint8_t>();
  if (!r.ok() || bytes.size() > max_frame_size || found_magic != magic) {
    return std::unexpected(broken("frame: not of this protocol"));
  }
  if (checksum != crc32c(bytes.subspan(4)) || reserved != 0) {
    return std::unexpected(broken("frame: wrong checksum"));
  }
  switch (static_cast<Kind>(kind)) {
    case Kind::hello:
      return get_hello(r, false);
    case Kind::answer:
      return get_hello(r, true);
    case Kind::proof:
      return get_proof(r);
    case Kind::welcome:
      return get_welcome(r);
    case Kind::client_information:
      return get_client_information(r);
    case Kind::ready:
      return get_ready(r);
    case Kind::payload: {
      Bytes body = r.get_bytes(r.remaining());
      return Payload{{body.begin(), body.end()}};
    }
  }
  return fail(ErrorCode::unsupported_version, "frame: unknown kind");
}

GreetingBytes encode(const Greeting& g) {
  GreetingBytes bytes{};
  std::byte* p = bytes.data();
  store_le(p + 4, protocol_version);
  store_le(p + 6, g.step);
  store_le(p + 7, g.node.value());
  store_le(p + 8, g.cluster.value());
  store_le(p + 16, g.nonce.value());
  store_le(p + 24, g.seen.value());
  store_le(p + 32, g.session.value());
  store_le(p, crc32c(Bytes(bytes).subspan(4)));
  return bytes;
}

Result<Greeting> decode_greeting(Bytes bytes) {
  if (bytes.size() != greeting_size) return std::unexpected(broken("greeting: not 48 bytes"));
  const std::byte* p = bytes.data();
  if (load_le<std::uint32_t>(p) != crc32c(bytes.subspan(4))) {
    return std::unexpected(broken("greeting: wrong checksum"));
  }
  if (load_le<std::uint16_t>(p + 4) != protocol_version) {
    return fail(ErrorCode::unsupported_version, "greeting: unknown version");
  }
  Greeting g;
  g.step = load_le<std::uint8_t>(p + 6);
  g.node = NodeId(load_le<std::uint8_t>(p + 7));
  g.cluster = ClusterId(load_le<std::uint64_t>(p + 8));
  g.nonce = BootNonce(load_le<std::uint64_t>(p + 16));
  g.seen = BootNonce(load_le<std::uint64_t>(p + 24));
  g.session = Session(load_le<std::uint64_t>(p + 32));
  if (g.step < 1 || g.step > 2 || !is_node(g.node) || g.nonce.value() == 0 ||
      load_le<std::uint64_t>(p + 40) != 0) {
    return std::unexpected(broken("greeting: a field is out of its range"));
  }
  return g;
}

}  // namespace duet::interconnect
