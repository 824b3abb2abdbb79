// What the fabric tests share: nodes of a test cluster and waiting on a loop.
#pragma once

#include <gtest/gtest.h>

#include <map>

#include "platform/fabric_interconnect.h"
#include "platform/fabric_mirror.h"

namespace duet::platform::fabric_test {

inline constexpr Duration patience = seconds(10);

inline interconnect::Self self_of(int node) {
  interconnect::Self self;
  self.cluster = ClusterId(0x1122334455664d2a);
  self.node = NodeId(static_cast<std::uint8_t>(node));
  self.nonce = BootNonce(1000u + static_cast<unsigned>(node));
  self.software = "duet test";
  self.secret.assign(32, std::byte{0x5a});
  return self;
}
inline std::string host_of(int node) {
  return "127.0.0." + std::to_string(node);
}

inline std::vector<std::byte> structure_of(const interconnect::Self& self,
                                           std::uint64_t progress = 0) {
  interconnect::StateStructure s;
  s.cluster = self.cluster;
  s.node = self.node;
  s.nonce = self.nonce;
  s.progress = progress;
  auto bytes = encode(s);
  return {bytes.begin(), bytes.end()};
}

inline std::vector<std::byte> text(std::string_view s) {
  auto b = std::as_bytes(std::span(s));
  return {b.begin(), b.end()};
}

// A supervisor's end in this process.
struct Node {
  Node(EventLoop& event_loop, interconnect::Self identity, FabricInterconnectOptions options = {})
      : loop(event_loop), self(identity) {
    options.self = identity;
    if (options.listen.host.empty()) options.listen.host = host_of(identity.node.value());
    auto opened = FabricInterconnect::open(loop, std::move(options));
    EXPECT_TRUE(opened.has_value()) << (opened ? "" : opened.error().message);
    link = std::move(*opened);
    link->publish_state(structure_of(self));
    link->on_state([this](ports::LinkState state, const std::string& text_of) {
      why = text_of;
      seen[state]++;
    });
    link->on_partner([this](const ports::Partner& p) { partner = p; });
    link->on_message([this](Bytes m) {
      messages.emplace_back(reinterpret_cast<const char*>(m.data()), m.size());
    });
  }
  FabricAddress address() const { return {host_of(self.node.value()), link->port()}; }
  void start(const FabricAddress& partner_address) {
    link->set_partner(partner_address);
    ASSERT_TRUE(link->start().has_value());
  }
  bool becomes(ports::LinkState state) {
    return loop.run_until([&] { return link->state() == state; }, patience);
  }

  EventLoop& loop;
  interconnect::Self self;
  std::unique_ptr<FabricInterconnect> link;
  std::string why;
  std::map<ports::LinkState, int> seen;
  ports::Partner partner;
  std::vector<std::string> messages;
};

}  // namespace duet::platform::fabric_test
