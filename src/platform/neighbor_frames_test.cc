#include "platform/neighbor_frames.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <tuple>

namespace duet::platform {
namespace {

constexpr HardwareAddress red{0x02, 0, 0, 0, 0, 1};
const IpAddress v4 = IpAddress::parse("192.0.2.11").value();
const IpAddress v6 = IpAddress::parse("2001:db8::11").value();

// RFC 1071: a message with its checksum sums up to all ones.
std::uint32_t sum(Bytes bytes) {
  std::uint32_t total = 0;
  for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) {
    total += load_be<std::uint16_t>(bytes.data() + i);
  }
  while (total >> 16 != 0) total = (total & 0xffff) + (total >> 16);
  return total;
}

TEST(NeighborFrames, GratuitousArpAsInRfc5227) {
  EXPECT_EQ(to_hex(gratuitous_arp_request(red, v4)),
            "ffffffffffff"
            "020000000001"
            "0806"
            "0001"
            "0800"
            "06"
            "04"
            "0001"
            "020000000001"
            "c000020b"
            "000000000000"
            "c000020b"
            "000000000000000000000000000000000000");
  auto reply = to_hex(gratuitous_arp_reply(red, v4));
  EXPECT_EQ(reply.substr(40, 44),
            "0002"
            "020000000001"
            "c000020b"
            "020000000001"
            "c000020b");
  auto probe = to_hex(arp_probe(red, v4));
  EXPECT_EQ(probe.substr(40, 44),
            "0001"
            "020000000001"
            "00000000"
            "000000000000"
            "c000020b");
}

TEST(NeighborFrames, UnsolicitedAdvertisementAsInRfc4861) {
  auto frame = unsolicited_advertisement(red, v6);
  EXPECT_EQ(to_hex(Bytes(frame).first(54)),
            "333300000001"
            "020000000001"
            "86dd"
            "60000000"
            "0020"
            "3a"
            "ff"
            "20010db8000000000000000000000011"
            "ff020000000000000000000000000001");
  auto message = Bytes(frame).subspan(54);
  ASSERT_EQ(message.size(), 32u);
  EXPECT_EQ(to_hex(message.first(2)), "8800");
  EXPECT_EQ(to_hex(message.subspan(4)),
            "20000000"
            "20010db8000000000000000000000011"
            "0201"
            "020000000001");
  // Addresses, length and next header of the pseudo header, then the message.
  EXPECT_EQ((sum(Bytes(frame).subspan(22)) + 32 + 58 - 1) % 0xffff + 1, 0xffffu);
}

TEST(NeighborFrames, SolicitationIsAnsweredToUsAlone) {
  auto own = IpAddress::parse("fe80::1").value();
  auto frame = solicitation(red, own, v6);
  EXPECT_EQ(to_hex(Bytes(frame).first(6)), "3333ff000011");
  EXPECT_EQ(to_hex(Bytes(frame).subspan(22, 32)),
            "fe800000000000000000000000000001"
            "ff0200000000000000000001ff000011");
  EXPECT_EQ(to_hex(Bytes(frame).subspan(54, 2)), "8700");
  EXPECT_EQ(to_hex(Bytes(frame).subspan(62)),
            "20010db8000000000000000000000011"
            "0101"
            "020000000001");
}

TEST(NeighborFrames, TickleIsABareAckWithSequenceZero) {
  auto segment = tickle_segment({v4, 3260}, {IpAddress::parse("192.0.2.100").value(), 40000});
  EXPECT_EQ(to_hex(Bytes(segment).first(16)),
            "0cbc"
            "9c40"
            "00000000"
            "00000000"
            "5010"
            "0400");
  // c000+020b+c000+0264 + length 20 + protocol 6, then the segment.
  auto pseudo = 0xc000u + 0x020b + 0xc000 + 0x0264 + 20 + 6;
  EXPECT_EQ((sum(segment) + pseudo - 1) % 0xffff + 1, 0xffffu);
}

TEST(NeighborFrames, ClaimsAreRead) {
  auto claim = parse_arp(gratuitous_arp_request(red, v4));
  ASSERT_TRUE(claim);
  EXPECT_EQ(claim->address, v4);
  EXPECT_EQ(to_string(claim->hardware), "02:00:00:00:00:01");
  EXPECT_TRUE(parse_arp(gratuitous_arp_reply(red, v4)));
  EXPECT_FALSE(parse_arp(arp_probe(red, v4))) << "a probe claims nothing";
  auto advertisement = unsolicited_advertisement(red, v6);
  claim = parse_advertisement(Bytes(advertisement).subspan(54));
  ASSERT_TRUE(claim);
  EXPECT_EQ(claim->address, v6);
  EXPECT_EQ(claim->hardware, red);
}

TEST(NeighborFrames, WhatIsCutOrDifferentIsNoClaim) {
  auto arp = gratuitous_arp_request(red, v4);
  for (std::size_t size = 0; size < 42; ++size) EXPECT_FALSE(parse_arp(Bytes(arp).first(size)));
  for (std::size_t at : {12u, 14u, 16u, 18u, 19u}) {
    auto other = arp;
    other[at] ^= std::byte{1};
    EXPECT_FALSE(parse_arp(other)) << at;
  }
  auto frame = unsolicited_advertisement(red, v6);
  auto message = Frame(frame.begin() + 54, frame.end());
  for (std::size_t size = 0; size < message.size(); ++size) {
    EXPECT_FALSE(parse_advertisement(Bytes(message).first(size)));
  }
  auto other = message;
  other[0] = std::byte{135};
  EXPECT_FALSE(parse_advertisement(other));
  other = message;
  other[25] = std::byte{0};  // an option of no length would be read for ever
  EXPECT_FALSE(parse_advertisement(other));
  other[25] = std::byte{2};
  EXPECT_FALSE(parse_advertisement(other)) << "longer than the message";
  // An unknown option in front is skipped.
  other = message;
  other.insert(other.begin() + 24, {std::byte{14}, std::byte{1}, {}, {}, {}, {}, {}, {}});
  EXPECT_TRUE(parse_advertisement(other));
}

Frame from_hex(std::string_view text) {
  Frame frame;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    frame.push_back(static_cast<std::byte>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
  }
  return frame;
}

// A SYN from 192.0.2.100:40000, or [2001:db8::100]:40000, to port 3260, its checksum not made yet.
const std::string syn =
    "9c400cbc"
    "00000001"
    "00000000"
    "5002fffe"
    "00000000";
const Frame syn_v4 = from_hex(
    "020000000001"
    "020000000064"
    "0800"
    "45000028"
    "00004000"
    "40060000"
    "c0000264"
    "c000020b" +
    syn);
const Frame syn_v6 = from_hex(
    "020000000001"
    "020000000064"
    "86dd"
    "60000000"
    "00140640"
    "20010db8000000000000000000000100"
    "20010db8000000000000000000000011" +
    syn);

TEST(NeighborFrames, ConnectionAttemptsAreKnown) {
  EXPECT_TRUE(is_connection_attempt(syn_v4, v4));
  EXPECT_TRUE(is_connection_attempt(syn_v6, v6));
  EXPECT_FALSE(is_connection_attempt(syn_v4, v6));
  EXPECT_FALSE(is_connection_attempt(syn_v4, IpAddress::parse("192.0.2.12").value()));
  for (const auto& [frame, address, flags] :
       {std::tuple{syn_v4, v4, 47u}, std::tuple{syn_v6, v6, 67u}}) {
    for (std::size_t size = 0; size < frame.size(); ++size) {
      EXPECT_FALSE(is_connection_attempt(Bytes(frame).first(size), address)) << size;
    }
    for (auto other : {0x12, 0x10, 0x04, 0x11, 0x00}) {  // SYN+ACK, ACK, RST, FIN+ACK, nothing
      auto changed = frame;
      changed[flags] = std::byte(other);
      EXPECT_FALSE(is_connection_attempt(changed, address)) << other;
    }
  }
  struct Damage {
    std::size_t at;
    int value;
  };
  for (auto [at, value] : {Damage{12, 9}, Damage{14, 0x65}, Damage{14, 0x44}, Damage{14, 0x4f},
                           Damage{17, 200}, Damage{20, 0x20}, Damage{21, 1}, Damage{23, 17}}) {
    auto changed = syn_v4;
    changed[at] = std::byte(value);
    EXPECT_FALSE(is_connection_attempt(changed, v4)) << at << " = " << value;
  }
}

TEST(NeighborFrames, AnotherReceiverGetsAWholeSegment) {
  HardwareAddress blue{0x02, 0, 0, 0, 0, 2};
  for (auto [frame, address, ip, segment] :
       {std::tuple{syn_v4, v4, 26u, 34u}, std::tuple{syn_v6, v6, 22u, 54u}}) {
    readdress(frame, red, blue);
    EXPECT_EQ(to_hex(Bytes(frame).first(12)),
              "020000000002"
              "020000000001");
    EXPECT_TRUE(is_connection_attempt(frame, address));
    // Addresses, protocol and length of the pseudo header, then the segment.
    auto total =
        sum(Bytes(frame).subspan(ip, segment - ip)) + sum(Bytes(frame).subspan(segment)) + 6 + 20;
    EXPECT_EQ((total - 1) % 0xffff + 1, 0xffffu);
  }
}

TEST(NeighborFrames, AdvertisementsAreFoundInFrames) {
  auto frame = unsolicited_advertisement(red, v6);
  ASSERT_TRUE(parse_advertisement_frame(frame));
  EXPECT_EQ(parse_advertisement_frame(frame)->address, v6);
  EXPECT_FALSE(parse_advertisement_frame(syn_v6));
  EXPECT_FALSE(parse_advertisement_frame(syn_v4));
  EXPECT_FALSE(parse_advertisement_frame({}));
}

}  // namespace
}  // namespace duet::platform
