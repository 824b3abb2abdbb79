#include "node/config.h"

#include <gtest/gtest.h>

#include "nvlog/record.h"
#include "nvlog/region.h"

namespace duet::node {
namespace {

const std::string good = R"(
[cluster]
name = "demo"
secret_file = "/etc/duet/secret"
[node]
id = 2
name = "blue"
partner_name = "red"
runtime_dir = "/run/duet"
[interconnect]
address = "127.0.0.2"
port = 7001
partner_address = "127.0.0.1"
partner_port = 7001
[nvram]
path = "/dev/shm/blue"
size = "16MiB"
allow_volatile = true
[[shelf]]
owner = 1
portal = "127.0.0.1:3261"
iqn = "iqn.a"
luns = [0, 1]
[[shelf]]
owner = 2
portal = "127.0.0.1:3262"
iqn = "iqn.b"
luns = [4, 2, 3]
[[service]]
identity = 1
iqn = "iqn.red"
address = "127.0.0.11"
[[service]]
identity = 2
iqn = "iqn.blue"
address = "127.0.0.12"
)";

TEST(Config, ReadsAGoodOne) {
  auto c = parse_config(good, "test");
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_EQ(c->self, NodeId(2));
  EXPECT_EQ(c->name_of(NodeId(1)), "red");
  EXPECT_EQ(c->nvram_size, 16u << 20);
  EXPECT_EQ(c->services[1].port, 3260);
  EXPECT_EQ(c->shelves[2].iqn, "iqn.b");
  EXPECT_EQ(c->shelves[2].luns, (std::vector<std::uint16_t>{4, 2, 3}));
  EXPECT_EQ(c->timers.lease(), milliseconds(600));
  EXPECT_EQ(c->find_node("red").value(), NodeId(1));
  EXPECT_EQ(c->find_node("2").value(), NodeId(2));
  EXPECT_FALSE(c->find_node("green"));
}

std::string error_with(const std::string& from, const std::string& to) {
  std::string text = good;
  text.replace(text.find(from), from.size(), to);
  auto c = parse_config(text, "test");
  return c ? "accepted" : c.error().message;
}

TEST(Config, SmallestNvramTakesTheLargestWrite) {
  auto layout = nvlog::RegionLayout::of_size(min_nvram_size);
  ASSERT_TRUE(layout.has_value());
  EXPECT_GE(layout->ring_size() / 4, nvlog::max_payload + nvlog::record_header_size);
}

TEST(Config, NamesWhatIsWrong) {
  EXPECT_EQ(error_with("id = 2", "id = 3"), "test: 'node.id' must be a number from 1 to 2");
  EXPECT_EQ(error_with("id = 2", ""), "test: 'node.id' is missing");
  EXPECT_EQ(error_with("name = \"blue\"", "name = \"red\""),
            "test: 'node.name' and 'node.partner_name' must differ");
  EXPECT_EQ(error_with("port = 7001", "port = 70010"),
            "test: 'interconnect.port' must be a number from 1 to 65535");
  EXPECT_EQ(error_with("port = 7001", "prot = 7001"), "test: unknown key 'interconnect.prot'");
  EXPECT_EQ(error_with("size = \"16MiB\"", "size = \"8MiB\""),
            "test: 'nvram.size' must be a size such as \"64MiB\", at least 16MiB");
  EXPECT_EQ(error_with("luns = [0, 1]", "luns = [1, 1]"),
            "test: 'shelf.luns' must list different LUN numbers from 0 to 255, at most 64");
  EXPECT_EQ(error_with("luns = [0, 1]", ""), "test: 'shelf.luns' is missing");
  EXPECT_EQ(error_with("owner = 2", "owner = 1"), "test: two [[shelf]] for node 1");
  EXPECT_EQ(
      error_with("[[service]]\nidentity = 2", "[takeover]\nmailbox_silence_ms = 300\n[x]\ny = 2"),
      "test: unknown key 'file.x'");
  EXPECT_EQ(error_with("[nvram]", "[takeover]\nmailbox_silence_ms = 300\n[nvram]"),
            "test: 'takeover.mailbox_silence_ms' must be at least 3 x heartbeat_ms + 200");
  EXPECT_NE(error_with("id = 2", "id = ").find("test: "), std::string::npos);
}

std::string with_service(const std::string& address, const std::string& more) {
  std::string text = good;
  std::string from = "address = \"127.0.0.12\"\n";
  text.replace(text.find(from), from.size(), "address = \"" + address + "\"\n" + more);
  return text;
}

TEST(Config, AnAddressWithoutInterfaceIsNotManaged) {
  auto c = parse_config(good, "test");
  ASSERT_TRUE(c);
  EXPECT_FALSE(c->services[2].managed());
}

TEST(Config, AServiceAddressGoesToAnInterface) {
  auto c = parse_config(with_service("192.0.2.12", "interface = \"eth0\"\nprefix = 24\n"), "test");
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_TRUE(c->services[2].managed());
  EXPECT_EQ(c->services[2].managed_address(),
            (ports::ServiceAddress{"eth0", IpAddress::parse("192.0.2.12").value(), 24}));
  c = parse_config(with_service("2001:db8::12", "interface = \"eth0\"\n"), "test");
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_EQ(c->services[2].prefix, 128);
  auto error = [](const std::string& address, const std::string& more) {
    auto refused = parse_config(with_service(address, more), "test");
    return refused ? "accepted" : refused.error().message;
  };
  EXPECT_EQ(error("192.0.2.12", "prefix = 24\n"),
            "test: 'service.prefix' needs 'service.interface'");
  EXPECT_EQ(error("192.0.2.12", "interface = \"eth0\"\nprefix = 33\n"),
            "test: 'service.prefix' must be a number from 1 to 32");
  EXPECT_EQ(error("192.0.2.12", "interface = \"eth0/1\"\n"),
            "test: 'service.interface' must be the name of a network interface");
  for (auto address : {"blue.example", "fe80::12", "0.0.0.0", "224.0.0.1"}) {
    EXPECT_NE(error(address, "interface = \"eth0\"\n").find("numeric unicast"), std::string::npos)
        << address;
  }
}

TEST(Config, SizesHaveBinarySuffixes) {
  EXPECT_EQ(parse_size("512").value(), 512u);
  EXPECT_EQ(parse_size("3GiB").value(), 3ull << 30);
  EXPECT_FALSE(parse_size("3GB"));
  EXPECT_FALSE(parse_size(""));
  EXPECT_FALSE(parse_size("99999999999TiB"));
}

}  // namespace
}  // namespace duet::node
