#include "base/ip_address.h"

#include <gtest/gtest.h>

namespace duet {
namespace {

TEST(IpAddress, ReadsBothFamiliesAndNothingElse) {
  EXPECT_EQ(to_string(IpAddress::parse("192.0.2.11").value()), "192.0.2.11");
  EXPECT_EQ(to_string(IpAddress::parse("2001:DB8:0::11").value()), "2001:db8::11");
  EXPECT_TRUE(IpAddress::parse("::1")->is_v6());
  for (auto text : {"", "localhost", "192.0.2", "192.0.2.256", "[::1]", "fe80::1%eth0", "1:2",
                    "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000"}) {
    EXPECT_FALSE(IpAddress::parse(text)) << text;
  }
  EXPECT_FALSE(IpAddress::parse(std::string_view("::1\0x", 5)));
}

TEST(IpAddress, KnowsItsNetwork) {
  auto a = IpAddress::parse("192.0.2.11").value();
  EXPECT_TRUE(a.same_network(IpAddress::parse("192.0.2.200").value(), 24));
  EXPECT_FALSE(a.same_network(IpAddress::parse("192.0.2.200").value(), 25));
  EXPECT_TRUE(a.same_network(IpAddress::parse("10.0.0.1").value(), 0));
  EXPECT_TRUE(a.same_network(a, 32));
  EXPECT_FALSE(a.same_network(IpAddress::parse("192.0.2.10").value(), 32));
  EXPECT_FALSE(a.same_network(IpAddress::parse("::1").value(), 0));
  auto b = IpAddress::parse("2001:db8::11").value();
  EXPECT_TRUE(b.same_network(IpAddress::parse("2001:db8::ffff").value(), 64));
  EXPECT_FALSE(b.same_network(IpAddress::parse("2001:db9::11").value(), 32));
}

TEST(IpAddress, UnicastIsWhatANodeCanHave) {
  for (auto text : {"192.0.2.11", "127.0.0.1", "2001:db8::1", "fd00::1", "::1"}) {
    EXPECT_TRUE(IpAddress::parse(text)->unicast()) << text;
  }
  for (auto text : {"0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1", "fe80::1"}) {
    EXPECT_FALSE(IpAddress::parse(text)->unicast()) << text;
  }
}

TEST(Endpoint, PutsBracketsAroundIpv6) {
  EXPECT_EQ(to_string(Endpoint::parse("192.0.2.11:3260").value()), "192.0.2.11:3260");
  EXPECT_EQ(to_string(Endpoint::parse("[2001:db8::11]:3260").value()), "[2001:db8::11]:3260");
  for (auto text : {"192.0.2.11", "192.0.2.11:", "192.0.2.11:65536", "192.0.2.11:1x", "::1:3260",
                    "[192.0.2.11]:3260", "[]:1", ":1"}) {
    EXPECT_FALSE(Endpoint::parse(text)) << text;
  }
  EXPECT_EQ(host_and_port("::1", 1), "[::1]:1");
  EXPECT_EQ(host_and_port("[::1]", 1), "[::1]:1");
  EXPECT_EQ(host_and_port("127.0.0.1", 65535), "127.0.0.1:65535");
}

}  // namespace
}  // namespace duet
