#include "ha/health.h"

#include <gtest/gtest.h>

#include "base/crc32c.h"

namespace duet::ha {
namespace {

HealthRecord example() {
  HealthRecord r;
  r.cluster = ClusterId(0x1122334455664d2a);
  r.node = NodeId(2);
  r.boot = BootNonce(0xb1b2b3b4b5b6b7b8);
  r.number = 9;
  r.health = Health::degraded;
  r.takeover_judged = true;
  r.nvram_persistent = true;
  r.nvram_size = 64 << 20;
  r.software = "0.1";
  r.inventories[0] = {.disks = 1, .connected = 1, .serial = {}};
  r.inventories[0].serial[0] = 0x01020304;
  r.inventories[1].disks = 2;
  r.modules = {{Module::interconnect, Health::failed, Finding::link_down, "down"}};
  r.obstacles = {{Move::takeover, Reason::partner_disks_unreachable, true, "2/0"}};
  return r;
}

std::string hex_at(const std::vector<std::byte>& bytes, std::size_t offset, std::size_t size) {
  return to_hex(Bytes(bytes).subspan(offset, size));
}

// As a sender would that knows the checksum.
void sign(std::vector<std::byte>& bytes) {
  std::fill_n(bytes.begin() + 12, 4, std::byte{0});
  store_le(bytes.data() + 12, crc32c(bytes));
}

TEST(health_record, golden_bytes) {
  auto bytes = encode(example());
  ASSERT_EQ(bytes.size(), health_record_size);
  EXPECT_EQ(hex_at(bytes, 0, 16), "44554554484c54480100000047dc3935");
  EXPECT_EQ(hex_at(bytes, 16, 16), "2a4d6655443322110202050101010200");
  EXPECT_EQ(hex_at(bytes, 32, 16), "b8b7b6b5b4b3b2b10900000000000000");
  EXPECT_EQ(hex_at(bytes, 48, 16), "00000000000000000000000400000000");
  EXPECT_EQ(hex_at(bytes, 64, 8), "302e310000000000");
  EXPECT_EQ(hex_at(bytes, 96, 16), "01000000000000000000000000000000");
  EXPECT_EQ(hex_at(bytes, 128, 12), "03031400646f776e00000000");
  EXPECT_EQ(hex_at(bytes, 1664, 12), "01013000322f300000000000");
  EXPECT_EQ(hex_at(bytes, 2432, 8), "0403020100000000");
}

TEST(health_record, round_trip) {
  EXPECT_EQ(decode_health_record(encode(example())).value(), example());
  HealthRecord full = example();
  full.modules.clear();
  full.obstacles.clear();
  for (std::size_t i = 0; i < max_modules; ++i) {
    full.modules.push_back({static_cast<Module>(i), Health::good, static_cast<Finding>(200 + i),
                            std::string(module_detail_size, 'm')});
  }
  for (std::size_t i = 0; i < max_obstacles; ++i) {
    full.obstacles.push_back({i % 2 == 0 ? Move::takeover : Move::giveback,
                              static_cast<Reason>(240 + i), i % 3 == 0,
                              std::string(obstacle_detail_size, 'o')});
  }
  for (auto& inventory : full.inventories) {
    inventory.disks = max_inventory;
    inventory.connected = ~0ull;
    inventory.serial.fill(7);
  }
  full.software = std::string(software_size, 's');
  full.wall_ns = -1;
  full.giveback_judged = true;
  EXPECT_EQ(decode_health_record(encode(full)).value(), full);
}

TEST(health_record, text_is_cut_and_made_printable) {
  auto record = example();
  record.modules[0].detail = "disk\n2\xff" + std::string(200, 'x');
  auto read = decode_health_record(encode(record)).value();
  EXPECT_EQ(read.modules[0].detail, "disk?2?" + std::string(module_detail_size - 7, 'x'));
}

TEST(health_record, every_damaged_byte_is_noticed) {
  auto good = encode(example());
  for (std::size_t i = 0; i < good.size(); ++i) {
    auto broken = good;
    broken[i] ^= std::byte{0x10};
    EXPECT_FALSE(decode_health_record(broken)) << i;
  }
  for (std::size_t size : {std::size_t{0}, std::size_t{15}, health_record_size - 1}) {
    EXPECT_FALSE(decode_health_record(Bytes(good).first(size)));
  }
}

// What a partner of ill will, or of another version, could sign.
TEST(health_record, rules_hold_behind_the_checksum) {
  struct Case {
    std::size_t offset;
    unsigned value;
  };
  for (auto [offset, value] :
       {Case{24, 0},   Case{24, 3},     Case{25, 4},   Case{26, 8},   Case{27, 17},  Case{27, 0},
        Case{28, 13},  Case{28, 0},     Case{29, 65},  Case{29, 0},   Case{31, 1},   Case{64, 10},
        Case{70, 'x'}, Case{96, 3},     Case{97, 1},   Case{112, 1},  Case{129, 4},  Case{131, 1},
        Case{132, 10}, Case{224, 1},    Case{1664, 0}, Case{1664, 3}, Case{1665, 2}, Case{1666, 0},
        Case{1667, 1}, Case{1668, 200}, Case{2436, 1}, Case{2944, 1}, Case{3071, 1}}) {
    auto bytes = encode(example());
    bytes[offset] = static_cast<std::byte>(value);
    sign(bytes);
    auto read = decode_health_record(bytes);
    ASSERT_FALSE(read) << offset << " " << value;
    EXPECT_EQ(read.error().code, ErrorCode::invalid);
  }
  auto twice = example();
  auto bytes = encode(twice);
  bytes[27] = std::byte{2};
  std::copy_n(bytes.begin() + 128, 96, bytes.begin() + 128 + 96);
  sign(bytes);
  EXPECT_FALSE(decode_health_record(bytes)) << "a module twice";
}

TEST(health_record, another_version_has_a_name) {
  auto bytes = encode(example());
  bytes[8] = std::byte{2};
  sign(bytes);
  auto read = decode_health_record(bytes);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::unsupported_version);
}

TEST(health_record, same_whatever_number_and_time) {
  auto a = example(), b = example();
  b.number = 10, b.wall_ns = 99;
  EXPECT_TRUE(a.same_as(b));
  b.modules[0].detail = "up";
  EXPECT_FALSE(a.same_as(b));
}

TEST(health_record, overall_health) {
  auto with = [](Module module, Health health) {
    return overall(
        {{Module::nvram, Health::good, Finding::none, ""}, {module, health, Finding::none, ""}});
  };
  EXPECT_EQ(overall({}), Health::unknown);
  EXPECT_EQ(overall({{Module::disks, Health::unknown, Finding::none, ""}}), Health::unknown);
  for (std::uint8_t i = 0; i < module_kinds; ++i) {
    auto module = static_cast<Module>(i);
    if (module == Module::nvram) continue;
    bool vital = module == Module::disks || module == Module::engine || module == Module::network ||
                 module == Module::addresses || module == Module::pool;
    EXPECT_EQ(with(module, Health::good), Health::good);
    EXPECT_EQ(with(module, Health::unknown), Health::good);
    EXPECT_EQ(with(module, Health::degraded), Health::degraded);
    EXPECT_EQ(with(module, Health::failed), vital ? Health::failed : Health::degraded);
  }
}

TEST(health_record, who_asks_to_be_taken_over) {
  auto record = [](Health disks, Health network) {
    HealthRecord r;
    r.node = NodeId(1);
    r.boot = BootNonce(1);
    r.takeover_judged = true;
    r.modules = {{Module::disks, disks, Finding::none, ""},
                 {Module::network, network, Finding::none, ""}};
    return r;
  };
  auto well = record(Health::good, Health::good);
  for (auto sick : {record(Health::failed, Health::good), record(Health::good, Health::failed)}) {
    EXPECT_TRUE(asks_to_be_taken_over(sick, well));
    EXPECT_FALSE(asks_to_be_taken_over(sick, {})) << "a partner of whom nothing is known";
    EXPECT_FALSE(asks_to_be_taken_over(sick, sick)) << "not better";
    auto cannot = well;
    cannot.obstacles = {{Move::takeover, Reason::partner_disks_unreachable, true, ""}};
    EXPECT_FALSE(asks_to_be_taken_over(sick, cannot));
    cannot.obstacles = {{Move::takeover, Reason::busy, false, ""},
                        {Move::giveback, Reason::busy, true, ""}};
    EXPECT_TRUE(asks_to_be_taken_over(sick, cannot)) << "a soft obstacle, and another move";
    cannot.takeover_judged = false;
    EXPECT_FALSE(asks_to_be_taken_over(sick, cannot)) << "it has not judged yet";
  }
  EXPECT_FALSE(asks_to_be_taken_over(well, well));
  EXPECT_FALSE(asks_to_be_taken_over(record(Health::degraded, Health::unknown), well));
}

TEST(health_record, everything_has_a_name_and_a_cure) {
  for (std::uint8_t i = 0; i < module_kinds; ++i) {
    EXPECT_NE(name(static_cast<Module>(i)), "unknown");
  }
  EXPECT_EQ(name(static_cast<Module>(module_kinds)), "unknown");
  int named = 0;
  for (unsigned i = 0; i < 256; ++i) {
    auto finding = static_cast<Finding>(i);
    if (name(finding) != "unknown") ++named;
    bool nothing = finding == Finding::none || finding == Finding::not_managed;
    EXPECT_EQ(cure(finding).empty(), nothing) << i;
  }
  EXPECT_EQ(named, 25);
}

}  // namespace
}  // namespace duet::ha
