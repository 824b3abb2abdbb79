// Against the kernel, in a network namespace of its own: two ends of a cable, "near" with the
// addresses and "far" where the test listens. Needs root and the ip command; else skipped.
#include "platform/netlink_addresses.h"

#include "platform/network_interfaces.h"

#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>

namespace duet::platform {
namespace {

using ports::ServiceAddress;
constexpr Duration limit = seconds(10);

ServiceAddress on(const std::string& interface, const std::string& address, std::uint8_t prefix) {
  return {interface, IpAddress::parse(address).value(), prefix};
}
const ServiceAddress v4 = on("near", "192.0.2.11", 24);
const ServiceAddress v6 = on("near", "2001:db8::11", 64);

bool run(const std::string& command) {
  // By a shell of this thread, so in its network namespace.
  // NOLINTNEXTLINE(bugprone-command-processor): fixed commands of a test
  return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
}

// Every frame that arrives at an interface, from when it is made.
class Listener {
 public:
  explicit Listener(const char* interface) {
    fd_ = ::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL));
    int room = 8 << 20;  // for all that a test sends at once
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    sockaddr_ll where{};
    where.sll_family = AF_PACKET;
    where.sll_protocol = htons(ETH_P_ALL);
    where.sll_ifindex = static_cast<int>(::if_nametoindex(interface));
    good_ = ::bind(fd_, reinterpret_cast<sockaddr*>(&where), sizeof where) == 0;
  }
  ~Listener() { ::close(fd_); }
  bool hears(const std::function<bool(Bytes)>& wanted) {
    std::array<std::byte, 2048> buffer;
    ssize_t n = 0;
    while (good_ && (n = ::recv(fd_, buffer.data(), buffer.size(), 0)) > 0) {
      if (wanted(Bytes(buffer.data(), static_cast<std::size_t>(n)))) return true;
    }
    return false;
  }
  void say(const Frame& frame) {
    ASSERT_EQ(::send(fd_, frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()));
  }

 private:
  int fd_;
  bool good_;
};

struct Node {
  EventLoop loop;
  std::unique_ptr<NetlinkAddresses> addresses = NetlinkAddresses::open(loop).value();

  // How it went, or "late".
  std::string outcome(const std::function<void(ports::Done<void>)>& start) {
    std::string how = "late";
    start([&](Result<void> r) { how = r ? "" : r.error().message; });
    EXPECT_EQ(how, "late") << "never from inside the call";
    loop.run_until([&] { return how != "late"; }, limit);
    return how;
  }
  std::string up(const ServiceAddress& a, Duration lifetime = seconds(60)) {
    return outcome([&](auto done) { addresses->bring_up(a, lifetime, std::move(done)); });
  }
  std::string down(const ServiceAddress& a) {
    return outcome([&](auto done) { addresses->take_down(a, std::move(done)); });
  }
  bool has(const ServiceAddress& a) { return addresses->look(a).present; }
};

// Runs `body` in a fresh namespace, in a thread of its own, as a namespace belongs to a thread.
void in_namespace(const std::function<void()>& body) {
  std::string why;
  std::thread([&] {
    if (::unshare(CLONE_NEWNET) != 0) {
      why = "no network namespace can be made: needs root";
    } else if (!run("ip link add near type veth peer name far && ip link set near up && "
                    "ip link set far up && ip link set lo up")) {
      why = "no virtual cable can be made: needs the ip command (iproute2)";
    } else {
      body();
    }
  }).join();
  if (!why.empty()) GTEST_SKIP() << why;
}

TEST(NetlinkAddresses, ComeUpAndGoDown) {
  in_namespace([] {
    Node n;
    for (const auto& a : {v4, v6}) {
      EXPECT_FALSE(n.has(a));
      EXPECT_FALSE(delivered_here(a.address));
      EXPECT_EQ(n.up(a), "");
      EXPECT_TRUE(n.has(a));
      EXPECT_TRUE(delivered_here(a.address)) << "who reaches it is answered";
      EXPECT_EQ(n.up(a), "") << "renewed";
      EXPECT_TRUE(n.addresses->look(a).link);
      n.addresses->take_down(a, [](Result<void>) {});
      EXPECT_FALSE(n.has(a)) << "when the call returns";
      EXPECT_EQ(n.down(a), "") << "there is nothing to do";
    }
  });
}

TEST(NetlinkAddresses, TakenDownWhileTheyComeUp) {
  in_namespace([] {
    Node n;
    for (const auto& a : {v4, v6}) {
      std::string how = "late";
      n.addresses->bring_up(a, seconds(60),
                            [&](Result<void> r) { how = r ? "" : r.error().message; });
      EXPECT_EQ(n.down(a), "");
      EXPECT_TRUE(n.loop.run_until([&] { return how != "late"; }, limit));
      EXPECT_NE(how.find("it is taken down"), std::string::npos) << how;
      EXPECT_FALSE(n.has(a));
    }
  });
}

TEST(NetlinkAddresses, EndWithTheirLifetime) {
  in_namespace([] {
    Node n;
    EXPECT_EQ(n.up(v4, seconds(1)), "");
    EXPECT_EQ(n.up(v6, seconds(1)), "");
    EXPECT_TRUE(n.has(v4));
    std::function<void()> turn = [&] {  // nothing tells the loop: it looks now and then
      n.loop.at(n.loop.now() + milliseconds(50), [&] { turn(); });
    };
    turn();
    EXPECT_TRUE(n.loop.run_until([&] { return !n.has(v4) && !n.has(v6); }, limit));
  });
}

TEST(NetlinkAddresses, AreNoSourceOfWhatTheNodeSends) {
  in_namespace([] {
    Node n;
    ASSERT_TRUE(run("ip address add 2001:db8::1/64 dev near nodad"));
    EXPECT_EQ(n.up(v6), "");
    EXPECT_TRUE(run("ip -6 address show dev near deprecated | grep -q 2001:db8::11"));
    // The route of the node's own address does not end with ours.
    EXPECT_FALSE(run("ip -6 route show 2001:db8::/64 | grep -q expires"));
    EXPECT_EQ(n.down(v6), "");
    EXPECT_TRUE(run("ip -6 route show 2001:db8::/64 | grep -q near"));
  });
}

TEST(NetlinkAddresses, OneGoesWithoutTheOtherInItsNetwork) {
  in_namespace([] {
    Node n;
    auto other = on("near", "192.0.2.12", 24);
    EXPECT_EQ(n.up(v4), "");
    EXPECT_EQ(n.up(other), "");
    EXPECT_EQ(n.down(v4), "");
    EXPECT_TRUE(n.has(other)) << "the kernel would take secondary addresses along";
  });
}

TEST(NetlinkAddresses, WhatIsLeftGoesWhereverItIs) {
  in_namespace([] {
    Node n;
    ASSERT_TRUE(
        run("ip address add 192.0.2.11/32 dev far && ip address add 192.0.2.11/28 dev near"));
    ASSERT_TRUE(run("ip address add 2001:db8::11/128 dev far nodad"));
    EXPECT_EQ(n.down(v4), "");
    EXPECT_EQ(n.down(v6), "");
    EXPECT_FALSE(run("ip address show | grep -q -e 192.0.2.11 -e 2001:db8::11"));
  });
}

TEST(NetlinkAddresses, ErrorsNameInterfaceAddressAndCure) {
  in_namespace([] {
    Node n;
    EXPECT_EQ(n.up(on("nowhere", "192.0.2.11", 24)),
              "cannot bring up 192.0.2.11/24 on nowhere: there is no such interface; create it, or "
              "correct service.interface");
    EXPECT_FALSE(n.addresses->look(on("nowhere", "192.0.2.11", 24)).interface_exists);
    ASSERT_TRUE(run("sysctl -w net.ipv6.conf.near.disable_ipv6=1") ||
                run("echo 1 > /proc/sys/net/ipv6/conf/near/disable_ipv6"));
    EXPECT_NE(n.up(v6).find("net.ipv6.conf.near.disable_ipv6=0"), std::string::npos);
  });
}

TEST(NetlinkAddresses, AreAnnouncedToTheNeighbours) {
  in_namespace([] {
    Node n;
    EXPECT_EQ(n.up(v4), "");
    EXPECT_EQ(n.up(v6), "");
    Listener far("far");
    n.addresses->announce(v4);
    EXPECT_TRUE(far.hears([](Bytes frame) {
      auto claim = parse_arp(frame);
      return claim && claim->address == v4.address;
    }));
    n.addresses->announce(v6);
    EXPECT_TRUE(far.hears([](Bytes frame) {
      if (frame.size() < 54) return false;
      auto claim = parse_advertisement(frame.subspan(54));
      return claim && claim->address == v6.address;
    }));
    // Nobody is harmed where there are no neighbours.
    auto loopback = on("lo", "192.0.2.12", 32);
    EXPECT_EQ(n.up(loopback), "");
    n.addresses->announce(loopback);
    n.addresses->probe(loopback);
  });
}

TEST(NetlinkAddresses, HearWhoElseClaimsThem) {
  in_namespace([] {
    Node n;
    std::vector<std::string> claims;
    n.addresses->on_duplicate([&](const ServiceAddress& a, const std::string& hardware) {
      claims.push_back(to_string(a.address) + " " + hardware);
    });
    EXPECT_EQ(n.up(v4), "");
    EXPECT_EQ(n.up(v6), "");
    Listener far("far");
    HardwareAddress stranger{2, 0, 0, 0, 0, 9};
    far.say(gratuitous_arp_reply(stranger, IpAddress::parse("192.0.2.99").value()));
    far.say(gratuitous_arp_reply(stranger, v4.address));
    EXPECT_TRUE(n.loop.run_until([&] { return claims.size() == 1; }, limit));
    EXPECT_EQ(claims.back(), "192.0.2.11 02:00:00:00:00:09");
    far.say(unsolicited_advertisement(stranger, v6.address));
    EXPECT_TRUE(n.loop.run_until([&] { return claims.size() == 2; }, limit));
    EXPECT_EQ(claims.back(), "2001:db8::11 02:00:00:00:00:09");
    // An address that is down is nobody's business.
    EXPECT_EQ(n.down(v4), "");
    far.say(gratuitous_arp_reply(stranger, v4.address));
    n.loop.run_until([] { return false; }, milliseconds(50));
    EXPECT_EQ(claims.size(), 2u);
  });
}

// What a client sends while the address is nowhere.
Frame connection_attempt() {
  Frame frame;
  for (int byte : {
           0x02, 0,    0,    0,    0,   0x0a, 0x02, 0,  0,  0, 0, 0x64, 0x08, 0,  // Ethernet
           0x45, 0,    0,    40,   0,   0,    0x40, 0,  64, 6, 0, 0,              // IPv4
           192,  0,    2,    100,  192, 0,    2,    11,                           // addresses
           0x9c, 0x40, 0x0c, 0xbc, 0,   0,    0,    1,  0,  0, 0, 0,    0x50, 2,
           4,    0,    0,    0,    0,   0,  // TCP
       }) {
    frame.push_back(std::byte(byte));
  }
  return frame;
}

TEST(NetlinkAddresses, KeepConnectionAttemptsForTheNewOwner) {
  in_namespace([] {
    Node n;
    ASSERT_TRUE(run("ip link set near address 02:00:00:00:00:0a"));
    EXPECT_EQ(n.up(v4), "");
    Listener far("far");
    auto turn = [&] { n.loop.run_until([] { return false; }, milliseconds(50)); };
    auto passed_on = [&](const char* to) {
      turn();
      return far.hears([&](Bytes frame) {
        return is_connection_attempt(frame, v4.address) && to_hex(frame.first(6)) == to;
      });
    };
    EXPECT_EQ(n.down(v4), "");
    far.say(connection_attempt());
    EXPECT_FALSE(passed_on("020000000009")) << "nobody has the address yet";
    HardwareAddress stranger{2, 0, 0, 0, 0, 9};
    far.say(gratuitous_arp_request(stranger, IpAddress::parse("192.0.2.99").value()));
    EXPECT_FALSE(passed_on("020000000009"));
    far.say(gratuitous_arp_request(stranger, v4.address));
    EXPECT_TRUE(passed_on("020000000009"));
    far.say(connection_attempt());
    EXPECT_TRUE(passed_on("020000000009")) << "later ones at once";
    // Back here, it is nobody else's any more.
    EXPECT_EQ(n.up(v4), "");
    far.say(connection_attempt());
    EXPECT_FALSE(passed_on("020000000009"));
  });
}

TEST(NetlinkAddresses, KeepSoManyConnectionAttemptsAndNoMore) {
  in_namespace([] {
    Node n;
    EXPECT_EQ(n.up(v4), "");
    EXPECT_EQ(n.down(v4), "");
    Listener far("far");
    auto turn = [&] { n.loop.run_until([] { return false; }, milliseconds(10)); };
    for (std::size_t i = 0; i < ConnectionAttempts::max_kept + 10; ++i) {
      far.say(connection_attempt());
      if (i % 50 == 0) turn();
    }
    auto longer = connection_attempt();
    longer.resize(ConnectionAttempts::max_frame + 1);
    far.say(longer);
    turn();
    std::size_t passed_on = 0;
    auto count = [&](Bytes frame) {
      passed_on += is_connection_attempt(frame, v4.address) && frame[5] == std::byte{9};
      return false;
    };
    far.say(gratuitous_arp_request({2, 0, 0, 0, 0, 9}, v4.address));
    turn();
    far.hears(count);
    EXPECT_EQ(passed_on, ConnectionAttempts::max_kept);
    // And in all.
    for (std::size_t i = 0; i < ConnectionAttempts::max_passed_on; ++i) {
      far.say(connection_attempt());
      if (i % 50 == 0) turn(), far.hears(count);
    }
    turn();
    far.hears(count);
    EXPECT_EQ(passed_on, ConnectionAttempts::max_passed_on);
  });
}

TEST(NetlinkAddresses, AskWhoElseHasThem) {
  in_namespace([] {
    Node n;
    EXPECT_EQ(n.up(v4), "");
    EXPECT_EQ(n.up(v6), "");
    Listener far("far");
    n.addresses->probe(v4);
    EXPECT_TRUE(far.hears([](Bytes frame) {
      return frame.size() >= 42 && to_hex(frame.subspan(28, 4)) == "00000000" &&
             to_hex(frame.subspan(38, 4)) == "c000020b";
    }));
    n.addresses->probe(v6);
    EXPECT_TRUE(far.hears([](Bytes frame) {
      return frame.size() >= 78 && frame[54] == std::byte{135} &&
             to_hex(frame.subspan(22, 2)) == "fe80" &&
             to_hex(frame.subspan(62, 16)) == "20010db8000000000000000000000011";
    })) << "from the link-local address";
  });
}

TEST(NetlinkAddresses, TickleSoManyClientsAndNoMore) {
  in_namespace([] {
    ASSERT_TRUE(run("ip neighbour add 192.0.2.100 lladdr 02:00:00:00:00:64 dev near"));
    Node n;
    std::vector<Endpoint> clients;
    for (std::size_t i = 0; i < ports::Addresses::max_tickles + 10; ++i) {
      clients.push_back(
          {IpAddress::parse("192.0.2.100").value(), static_cast<std::uint16_t>(10000 + i)});
    }
    Listener far("far");
    std::size_t heard = 0;
    auto count = [&](Bytes frame) {
      heard += frame.size() >= 54 && frame[23] == std::byte{6} &&
               to_hex(frame.subspan(26, 4)) == "c000020b" && frame[47] == std::byte{0x10};
      return false;
    };
    n.addresses->tickle(v4, 3260, clients);
    far.hears(count);
    EXPECT_EQ(heard, 0u) << "the address is not here";
    EXPECT_EQ(n.up(v4), "");
    clients.insert(clients.begin(), Endpoint::parse("[2001:db8::100]:1").value());
    n.addresses->tickle(v4, 3260, clients);
    far.hears(count);
    EXPECT_EQ(heard, ports::Addresses::max_tickles);
  });
}

TEST(NetlinkAddresses, TellThatALinkChanged) {
  in_namespace([] {
    Node n;
    EXPECT_EQ(n.up(v4), "");
    int changes = 0;
    n.addresses->on_link([&] { ++changes; });
    ASSERT_TRUE(run("ip link set far down"));
    EXPECT_TRUE(n.loop.run_until([&] { return !n.addresses->look(v4).link; }, limit));
    EXPECT_TRUE(n.loop.run_until([&] { return changes > 0; }, limit));
  });
}

}  // namespace
}  // namespace duet::platform
