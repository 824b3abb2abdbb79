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

TEST(Config, BoundsOfThePools) {
  auto c = parse_config(good, "test");
  ASSERT_TRUE(c);
  EXPECT_EQ(c->point_age, seconds(10));
  EXPECT_EQ(c->dirty_limit, 256u << 20);
  EXPECT_EQ(c->metadata_cache, 64u << 20);
  c = parse_config(good +
                       "[engine]\nconsistency_point_ms = 0\ndirty_limit = \"16MiB\"\n"
                       "metadata_cache = \"4MiB\"\n",
                   "test");
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_EQ(c->point_age, Duration(0));
  EXPECT_EQ(c->dirty_limit, 16u << 20);
  EXPECT_EQ(c->metadata_cache, 4u << 20);
  EXPECT_FALSE(parse_config(good + "[engine]\ndirty_limit = \"8MiB\"\n", "test"));
  EXPECT_FALSE(parse_config(good + "[engine]\nmetadata_cache = \"1MiB\"\n", "test"));
  EXPECT_FALSE(parse_config(good + "[engine]\nconsistency_point_ms = -1\n", "test"));
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

TEST(Config, SnapshotsByTheClock) {
  const std::string hourly = "[[snapshots]]\nidentity = 1\ninterval_minutes = 60\nkeep = 24\n";
  auto c = parse_config(good + hourly, "test");
  ASSERT_TRUE(c) << c.error().message;
  ASSERT_EQ(c->snapshots.size(), 1u);
  EXPECT_EQ(c->snapshots[0].volume, "vol0");
  EXPECT_EQ(c->snapshots[0].interval, std::chrono::hours(1));
  EXPECT_EQ(c->snapshots[0].keep, 24u);
  EXPECT_FALSE(parse_config(good + hourly + hourly, "test")) << "two of one volume";
  EXPECT_TRUE(parse_config(good + hourly + hourly + "volume = \"work\"\n", "test"));
  for (const char* wrong : {"[snapshots]\nidentity = 1\n", "[[snapshots]]\nidentity = 3\n",
                            "[[snapshots]]\nidentity = 1\nkeep = 3\n"}) {
    EXPECT_FALSE(parse_config(good + wrong, "test")) << wrong;
  }
}

TEST(Config, SizesHaveBinarySuffixes) {
  EXPECT_EQ(parse_size("512").value(), 512u);
  EXPECT_EQ(parse_size("3GiB").value(), 3ull << 30);
  EXPECT_FALSE(parse_size("3GB"));
  EXPECT_FALSE(parse_size(""));
  EXPECT_FALSE(parse_size("99999999999TiB"));
}

TEST(Config, ManagementIsOffUnlessConfigured) {
  EXPECT_TRUE(parse_config(good, "test")->management_address.empty());
  auto on = parse_config(good + R"(
[management]
address = "10.0.0.1"
secret_file = "/etc/duet/management"
)",
                         "test");
  ASSERT_TRUE(on) << on.error().message;
  EXPECT_EQ(on->management_address, "10.0.0.1");
  EXPECT_EQ(on->management_port, 7003);
  for (const char* wrong :
       {"[management]\naddress = \"host\"\nsecret_file = \"x\"",
        "[management]\naddress = \"10.0.0.1\"", "[management]\nsecret_file = \"x\"",
        "[management]\naddress = \"10.0.0.1\"\nsecret_file = \"x\"\nport = 0",
        "[management]\naddress = \"10.0.0.1\"\nsecret_file = \"x\"\ncolour = 1",
        "management = 3"}) {
    auto c = parse_config(
        std::string(wrong).starts_with("management") ? wrong + ("\n" + good) : good + "\n" + wrong,
        "test");
    ASSERT_FALSE(c) << wrong;
    EXPECT_NE(c.error().message.find("management"), std::string::npos) << c.error().message;
  }
}

TEST(Config, Coredump) {
  auto c = parse_config(good, "test");
  ASSERT_TRUE(c);
  EXPECT_TRUE(c->dump);
  EXPECT_EQ(c->dump_limit, seconds(60));
  EXPECT_FALSE(c->dump_cache);
  EXPECT_FALSE(c->test_panics);
  EXPECT_EQ(c->core_keep, 4);
  EXPECT_EQ(c->core_space_percent, 10);
  c = parse_config(std::string(good) +
                       "\n[coredump]\nenabled = false\nlimit_ms = 500\ninclude_cache = true\n"
                       "test_panics = true\nkeep = 0\nspace_limit_percent = 90\n",
                   "test");
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_FALSE(c->dump);
  EXPECT_EQ(c->dump_limit, milliseconds(500));
  EXPECT_TRUE(c->dump_cache);
  EXPECT_TRUE(c->test_panics);
  EXPECT_EQ(c->core_keep, 0);
  EXPECT_EQ(c->core_space_percent, 90);
  for (const char* wrong : {"limit_ms = 99", "limit_ms = 3600001", "test_panics = 1", "colour = 1",
                            "keep = 65", "space_limit_percent = 0", "space_limit_percent = 91"}) {
    EXPECT_FALSE(parse_config(std::string(good) + "\n[coredump]\n" + wrong + "\n", "test"))
        << wrong;
  }
}

TEST(Config, AConsoleKnowsBothNodes) {
  const std::string console = R"(
secret_file = "/etc/duet/management"
[[node]]
id = 1
name = "red"
address = "10.0.0.1"
[[node]]
id = 2
name = "blue"
address = "2001:db8::2"
port = 7103
)";
  auto c = parse_console(console, "test");
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_EQ(c->ports[1], 7003);
  EXPECT_EQ(c->ports[2], 7103);
  EXPECT_EQ(find_node(c->names, "blue").value(), NodeId(2));
  EXPECT_FALSE(find_node(c->names, "green"));
  EXPECT_FALSE(find_node({}, ""));
  for (auto [from, to] : {std::pair{"id = 2", "id = 1"},
                          {"name = \"blue\"", "name = \"red\""},
                          {"2001:db8::2", "somewhere"},
                          {"secret_file = \"/etc/duet/management\"", ""},
                          {"port = 7103", "port = 0"},
                          {"port = 7103", "colour = 1"}}) {
    auto text = console;
    text.replace(text.find(from), std::string(from).size(), to);
    EXPECT_FALSE(parse_console(text, "test")) << to;
  }
  EXPECT_FALSE(load_console("/nonexistent"));
}

}  // namespace
}  // namespace duet::node
