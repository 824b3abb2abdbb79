#include "coredump/dump_disk.h"

#include <gtest/gtest.h>

#include <functional>

namespace duet::coredump {
namespace {

constexpr ClusterId cluster{77};
constexpr NodeId self{1};

DumpCandidate candidate(std::uint8_t id, disk::Role role, std::uint64_t size = 64 << 20) {
  disk::Label label;
  label.cluster = cluster;
  label.id.bytes[0] = id;
  label.owner = self;
  label.role = role;
  label.size = size;
  label.disks_in_pool = 4;
  label.pool_name = "red0";
  DumpCandidate c;
  c.expected = label.id;
  c.medium_size = size;
  c.label = disk::ChosenLabel{label, false};
  c.header = fail(ErrorCode::not_found, "no coredump header");
  c.raid_left_it = true;
  c.reserved = true;
  return c;
}
disk::Label& label_of(DumpCandidate& c) {
  return (*c.label)->label;
}

TEST(DumpDisk, EachRefusalHasItsReason) {
  const std::pair<Refusal, std::function<void(DumpCandidate&)>> cases[] = {
      {Refusal::none, [](DumpCandidate&) {}},
      {Refusal::none,
       [](DumpCandidate& c) {
         label_of(c).role = disk::Role::coredump;
         c.raid_left_it = false;  // RAID never drafts these
       }},
      {Refusal::none, [](DumpCandidate& c) { c.header = fail(ErrorCode::invalid, "damaged"); }},
      {Refusal::none, [](DumpCandidate& c) { c.label->value().repair = true; }},
      {Refusal::unreadable, [](DumpCandidate& c) { c.label.reset(); }},
      {Refusal::unreadable, [](DumpCandidate& c) { c.header.reset(); }},
      {Refusal::unreadable,
       [](DumpCandidate& c) { c.header = fail(ErrorCode::unsupported_version, "newer"); }},
      {Refusal::no_label, [](DumpCandidate& c) { c.label = fail(ErrorCode::not_found, "none"); }},
      {Refusal::other_disk, [](DumpCandidate& c) { c.expected.bytes[0] = 99; }},
      {Refusal::other_disk, [](DumpCandidate& c) { label_of(c).cluster = ClusterId(78); }},
      {Refusal::other_disk, [](DumpCandidate& c) { c.medium_size -= 4096; }},
      {Refusal::other_owner, [](DumpCandidate& c) { label_of(c).owner = NodeId(2); }},
      {Refusal::holds_data, [](DumpCandidate& c) { label_of(c).role = disk::Role::data; }},
      {Refusal::mailbox_disk, [](DumpCandidate& c) { label_of(c).mailbox = true; }},
      {Refusal::drafted, [](DumpCandidate& c) { c.raid_left_it = false; }},
      {Refusal::not_reserved, [](DumpCandidate& c) { c.reserved = false; }},
      {Refusal::too_small,
       [](DumpCandidate& c) {
         label_of(c).size = disk::data_offset + min_dump_room - disk::area_block_size;
       }},
  };
  for (const auto& [reason, change] : cases) {
    auto c = candidate(1, disk::Role::spare);
    change(c);
    EXPECT_EQ(refusal(c, cluster, self), reason) << name(reason);
    EXPECT_EQ(choose_dump_disk(std::span(&c, 1), cluster, self).has_value(),
              reason == Refusal::none);
    EXPECT_NE(name(reason), "?");
  }
  EXPECT_EQ(name(static_cast<Refusal>(99)), "?");
}

// Invariant I11: over all combinations of what may be wrong, one that is chosen is free of data.
TEST(DumpDisk, NeverADataDisk) {
  int chosen = 0;
  for (unsigned bits = 0; bits < 64; ++bits) {
    for (int role = 1; role <= 3; ++role) {
      auto c = candidate(1, static_cast<disk::Role>(role));
      label_of(c).mailbox = (bits & 1) != 0;
      c.raid_left_it = (bits & 2) == 0;
      c.reserved = (bits & 4) == 0;
      if ((bits & 8) != 0) label_of(c).owner = NodeId(2);
      if ((bits & 16) != 0) c.expected.bytes[5] = 1;
      if ((bits & 32) != 0) c.label = fail(ErrorCode::invalid, "damaged");
      if (!choose_dump_disk(std::span(&c, 1), cluster, self)) continue;
      ++chosen;
      EXPECT_NE(role, 1);
      EXPECT_EQ(bits & ~2U, 0U);
      EXPECT_TRUE(role == 3 || (bits & 2) == 0);
    }
  }
  EXPECT_EQ(chosen, 3);
}

TEST(DumpDisk, DedicatedThenLargerThenLowerId) {
  std::vector<DumpCandidate> all = {
      candidate(1, disk::Role::data, 900 << 20), candidate(2, disk::Role::spare, 500 << 20),
      candidate(3, disk::Role::coredump, 64 << 20), candidate(5, disk::Role::coredump, 80 << 20),
      candidate(4, disk::Role::coredump, 80 << 20)};
  auto take = [&] {
    auto chosen = choose_dump_disk(all, cluster, self);
    std::size_t i = chosen ? chosen->candidate : 99;
    if (chosen) all[i].reserved = false;
    return i;
  };
  EXPECT_EQ(take(), 4U);
  EXPECT_EQ(take(), 3U);
  EXPECT_EQ(take(), 2U);
  EXPECT_EQ(take(), 1U);
  EXPECT_EQ(take(), 99U);
}

TEST(DumpDisk, SaysRoomAndTheNextSequence) {
  auto c = candidate(1, disk::Role::spare);
  auto chosen = choose_dump_disk(std::span(&c, 1), cluster, self);
  ASSERT_TRUE(chosen);
  EXPECT_EQ(chosen->room, std::uint64_t{63} << 20);
  EXPECT_EQ(chosen->sequence, 1U);
  Header old;
  old.sequence = 41;
  c.header = old;
  EXPECT_EQ(choose_dump_disk(std::span(&c, 1), cluster, self)->sequence, 42U);
  old.sequence = ~std::uint64_t{0};  // foreign bytes may say so
  c.header = old;
  EXPECT_EQ(choose_dump_disk(std::span(&c, 1), cluster, self)->sequence, 1U);
}

}  // namespace
}  // namespace duet::coredump
