#include "node/client_list.h"

#include <gtest/gtest.h>

namespace duet::node {
namespace {

constexpr ClusterId cluster{0x112233445566'4d2a};
constexpr NodeId red{1}, blue{2};

Endpoint at(const std::string& text) {
  return Endpoint::parse(text).value();
}

// The example of docs/formats/ha_messages.md.
const ClientList example{cluster, blue, blue, 0, 1, {at("192.0.2.100:40000")}};

TEST(ClientList, GoldenBytes) {
  EXPECT_EQ(to_hex(encode(example)),
            "01002002"
            "34000000"
            "2a4d665544332211"
            "02000101"
            "000000000000000000000000"
            "c0000264000000000000000000000000"
            "409c0400");
  EXPECT_EQ(decode_client_list(encode(example)).value(), example);
}

TEST(ClientList, BothFamiliesComeBack) {
  auto list = example;
  list.clients = {at("192.0.2.100:1"), at("[2001:db8::100]:65535")};
  EXPECT_EQ(decode_client_list(encode(list)).value(), list);
  list.clients.clear();
  EXPECT_EQ(decode_client_list(encode(list)).value(), list);
}

TEST(ClientList, EveryRuleIsLookedAt) {
  auto good = encode(example);
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(decode_client_list(Bytes(good).first(size))) << size;
  }
  auto longer = good;
  longer.push_back({});
  EXPECT_FALSE(decode_client_list(longer));
  struct Damage {
    std::size_t at;
    int value;
  };
  for (auto [at, value] :
       {Damage{0, 2}, Damage{2, 4}, Damage{3, 3}, Damage{4, 1}, Damage{16, 0}, Damage{16, 3},
        Damage{17, 1}, Damage{18, 0}, Damage{18, 9}, Damage{19, 2}, Damage{20, 1}, Damage{36, 1},
        Damage{50, 5}, Damage{51, 1}}) {
    auto bad = good;
    bad[at] = std::byte(value);
    EXPECT_FALSE(decode_client_list(bad)) << at << " = " << value;
  }
  auto bad = good;
  bad[48] = bad[49] = {};
  EXPECT_FALSE(decode_client_list(bad)) << "port 0";
}

std::vector<Endpoint> many(std::size_t count) {
  std::vector<Endpoint> all;
  for (std::size_t i = 0; i < count; ++i) {
    all.push_back({IpAddress::parse("192.0.2.1").value(), static_cast<std::uint16_t>(i + 1)});
  }
  return all;
}

TEST(ClientLists, AreToldWhenTheyChangeAndNowAndThen) {
  ClientLists lists(cluster, red);
  Instant now{};
  EXPECT_EQ(lists.on_own(red, {}, now).size(), 1u) << "that there is nobody";
  EXPECT_EQ(lists.on_own(red, {}, now + seconds(60)).size(), 0u);
  EXPECT_EQ(lists.on_own(red, many(2), now).size(), 1u);
  auto other_order = many(2);
  std::swap(other_order[0], other_order[1]);
  EXPECT_EQ(lists.on_own(red, other_order, now + seconds(1)).size(), 0u);
  EXPECT_EQ(lists.on_own(red, many(2), now + ClientLists::refresh_interval).size(), 1u);
  EXPECT_EQ(lists.on_own(blue, many(2), now + seconds(6)).size(), 1u);
  lists.on_partner();
  EXPECT_EQ(lists.on_own(red, many(2), now + seconds(6)).size(), 1u);
}

TEST(ClientLists, ComeAcrossInBoundedParts) {
  ClientLists lists(cluster, red), partner(cluster, blue);
  auto tell = [&](std::size_t count) {
    auto messages = lists.on_own(red, many(count), Instant{});
    for (const auto& message : messages) {
      EXPECT_LE(message.size(), 4096u);
      ASSERT_TRUE(is_client_list(message));
      partner.on_message(message);
    }
  };
  tell(300);
  EXPECT_EQ(partner.of_partner(red), many(300));
  EXPECT_TRUE(partner.of_partner(blue).empty());
  tell(2);
  EXPECT_EQ(partner.of_partner(red), many(2)) << "parts that are no more are forgotten";
  tell(max_listed_clients + 1);
  EXPECT_EQ(partner.of_partner(red), many(max_listed_clients));
  EXPECT_EQ(partner.invalid(), 0u);
}

TEST(ClientLists, BelieveThePartnerOnly) {
  ClientLists lists(cluster, red);
  auto message = example;
  message.sender = red;
  lists.on_message(encode(message));
  message = example;
  message.cluster = ClusterId(1);
  lists.on_message(encode(message));
  lists.on_message({});
  EXPECT_EQ(lists.invalid(), 3u);
  EXPECT_TRUE(lists.of_partner(blue).empty());
  lists.on_message(encode(example));
  EXPECT_EQ(lists.of_partner(blue).size(), 1u);
}

TEST(ClientLists, AMessageOfTheCoreIsNotOurs) {
  std::vector<std::byte> core_message(64);
  core_message[0] = std::byte{1};
  core_message[2] = std::byte{4};
  EXPECT_FALSE(is_client_list(core_message));
  EXPECT_FALSE(is_client_list({}));
}

}  // namespace
}  // namespace duet::node
