#include "node/client_list.h"

#include <algorithm>

namespace duet::node {
namespace {

constexpr std::uint16_t version = 1;
constexpr std::uint8_t kind = 32;
constexpr std::size_t header_size = 32;
constexpr std::size_t entry_size = 20;

bool node_number(std::uint8_t n) {
  return n == 1 || n == 2;
}

}  // namespace

std::vector<std::byte> encode(const ClientList& list) {
  ASSERT(list.clients.size() <= max_clients_in_part);
  ASSERT(list.part < list.parts && list.parts <= max_client_parts);
  ByteWriter w;
  w.put(version);
  w.put(kind);
  w.put(list.sender.value());
  w.put(static_cast<std::uint32_t>(header_size + entry_size * list.clients.size()));
  w.put(list.cluster.value());
  w.put(list.identity.value());
  w.put(list.part);
  w.put(list.parts);
  w.put(static_cast<std::uint8_t>(list.clients.size()));
  w.put_bytes(std::array<std::byte, 12>{});
  for (const auto& client : list.clients) {
    w.put_bytes(std::as_bytes(std::span(client.address.bytes())));
    w.put(client.port);
    w.put(std::uint8_t{client.address.is_v6() ? std::uint8_t{6} : std::uint8_t{4}});
    w.put(std::uint8_t{0});
  }
  return w.take();
}

bool is_client_list(Bytes bytes) {
  return bytes.size() >= 3 && load_le<std::uint16_t>(bytes.data()) == version &&
         bytes[2] == std::byte{kind};
}

Result<ClientList> decode_client_list(Bytes bytes) {
  auto broken = [] { return fail(ErrorCode::invalid, "client list breaks a rule"); };
  if (!is_client_list(bytes)) return broken();
  ByteReader r(bytes.subspan(3));
  ClientList list;
  auto sender = r.get<std::uint8_t>();
  auto size = r.get<std::uint32_t>();
  list.cluster = ClusterId(r.get<std::uint64_t>());
  auto identity = r.get<std::uint8_t>();
  list.part = r.get<std::uint8_t>();
  list.parts = r.get<std::uint8_t>();
  auto count = r.get<std::uint8_t>();
  r.get_bytes(12);
  if (!r.ok() || size != bytes.size() || size != header_size + entry_size * count) return broken();
  if (!node_number(sender) || !node_number(identity) || count > max_clients_in_part ||
      list.parts > max_client_parts || list.part >= list.parts) {
    return broken();
  }
  list.sender = NodeId(sender);
  list.identity = NodeId(identity);
  for (std::size_t i = 0; i < count; ++i) {
    std::array<std::uint8_t, 16> address;
    std::ranges::transform(r.get_bytes(address.size()), address.begin(),
                           [](std::byte b) { return std::to_integer<std::uint8_t>(b); });
    auto port = r.get<std::uint16_t>();
    auto family = r.get<std::uint8_t>();
    r.get<std::uint8_t>();
    if (port == 0 || (family != 4 && family != 6)) return broken();
    auto ip = family == 6 ? IpAddress::v6(address)
                          : IpAddress::v4({address[0], address[1], address[2], address[3]});
    list.clients.push_back({ip, port});
  }
  // Nothing hides in unused bytes.
  if (!std::ranges::equal(encode(list), bytes)) return broken();
  return list;
}

std::vector<std::vector<std::byte>> ClientLists::on_own(NodeId identity,
                                                        std::vector<Endpoint> clients,
                                                        Instant now) {
  std::ranges::sort(clients);
  if (clients.size() > max_listed_clients) clients.resize(max_listed_clients);
  auto& told = told_[identity.value()];
  bool old = !clients.empty() && now >= told.when + refresh_interval;
  if (told.ever && told.clients == clients && !old) return {};
  told = {true, now, clients};
  std::vector<std::vector<std::byte>> messages;
  ClientList part{cluster_, self_, identity, 0, 1, {}};
  auto parts = (clients.size() + max_clients_in_part - 1) / max_clients_in_part;
  part.parts = static_cast<std::uint8_t>(std::max<std::size_t>(1, parts));
  for (; part.part < part.parts; ++part.part) {
    auto from = part.part * max_clients_in_part;
    auto to = std::min(clients.size(), from + max_clients_in_part);
    part.clients.assign(clients.begin() + static_cast<std::ptrdiff_t>(from),
                        clients.begin() + static_cast<std::ptrdiff_t>(to));
    messages.push_back(encode(part));
  }
  return messages;
}

void ClientLists::on_message(Bytes bytes) {
  auto list = decode_client_list(bytes);
  if (!list || list->cluster != cluster_ || list->sender != partner_of(self_)) {
    ++invalid_;
    return;
  }
  auto& parts = heard_[list->identity.value()];
  parts.resize(list->parts);
  parts[list->part] = std::move(list->clients);
}

std::vector<Endpoint> ClientLists::of_partner(NodeId identity) const {
  std::vector<Endpoint> all;
  for (const auto& part : heard_[identity.value()]) all.insert(all.end(), part.begin(), part.end());
  return all;
}

}  // namespace duet::node
