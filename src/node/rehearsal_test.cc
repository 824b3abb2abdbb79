#include "node/rehearsal.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "disk/areas.h"
#include "disk/label.h"
#include "disk/reservation_key.h"
#include "ha/mailbox.h"

namespace duet::node {
namespace {

const ClusterId cluster{7};

Config config() {
  Config c;
  c.cluster = cluster;
  c.self = NodeId(1);
  c.node_names = {"", "red", "blue"};
  return c;
}

std::vector<std::byte> both_copies(Bytes block) {
  std::vector<std::byte> both(block.begin(), block.end());
  both.insert(both.end(), block.begin(), block.end());
  return both;
}
std::vector<std::byte> labels(ClusterId of, NodeId owner) {
  disk::Label label;
  label.cluster = of;
  label.id.bytes[0] = 1;
  label.owner = owner;
  label.disks_in_pool = 1;
  label.size = 64 << 20;
  label.pool_name = "blue";
  label.pool[0] = 1;
  return both_copies(disk::encode_label(label).value());
}
// The label of disk `position` of a RAID group of four with single parity.
std::vector<std::byte> labels_in_group(std::uint16_t position) {
  disk::Label label;
  label.cluster = cluster;
  label.id.bytes[0] = 1;
  label.owner = NodeId(2);
  label.position = position;
  label.disks_in_pool = 4;
  label.redundancy = 1;
  label.size = 64 << 20;
  label.pool_name = "blue";
  label.pool[0] = 1;
  return both_copies(disk::encode_label(label).value());
}
std::vector<std::byte> mailboxes() {
  return both_copies(ha::encode(ha::first_mailbox(cluster, NodeId(2), {})));
}

ports::ReservationState held_by(ReservationKey key) {
  return {1, true, key, ports::ReservationType::write_exclusive_registrants_only};
}

RehearsedDisk fit(const std::string& name) {
  RehearsedDisk d;
  d.name = name;
  d.labels = labels(cluster, NodeId(2));
  d.reservation = held_by(disk::make_key(cluster, NodeId(2), disk::KeyRole::supervisor, Epoch(3)));
  d.mailbox_disk = true;
  d.mailbox = mailboxes();
  return d;
}

TEST(rehearsal, nothing_in_the_way) {
  EXPECT_TRUE(judge_rehearsal(config(), {fit("blue/0"), fit("blue/1")}).empty());
  auto unreserved = fit("blue/0");
  unreserved.reservation = ports::ReservationState{1, false, ReservationKey(0), {}};
  auto one_copy = fit("blue/1");
  std::ranges::fill(std::span(*one_copy.mailbox).first(4096), std::byte{0});
  EXPECT_TRUE(judge_rehearsal(config(), {unreserved, one_copy}).empty());
}

TEST(rehearsal, each_obstacle_names_its_disk) {
  struct Row {
    std::function<void(RehearsedDisk&)> change;
    ha::Reason reason;
    std::string detail;
  };
  const Row rows[] = {
      {[](auto& d) { d.labels = fail(ErrorCode::disconnected, "no path"); },
       ha::Reason::partner_disks_unreachable, "blue/1: no path"},
      {[](auto& d) { d.reservation = fail(ErrorCode::timed_out, "no answer"); },
       ha::Reason::partner_disks_unreachable, "blue/1: no answer"},
      {[](auto& d) { d.labels = labels(ClusterId(8), NodeId(2)); }, ha::Reason::label_unfit,
       "blue/1: belongs to another cluster"},
      {[](auto& d) { d.labels = labels(cluster, NodeId(1)); }, ha::Reason::label_unfit,
       "blue/1: is labelled as a disk of node 1"},
      {[](auto& d) { d.labels = std::vector<std::byte>(8192); }, ha::Reason::label_unfit,
       "blue/1: "},
      {[](auto& d) { d.reservation = held_by(ReservationKey(0x4242)); },
       ha::Reason::foreign_reservation, "blue/1: "},
      {[](auto& d) { d.mailbox = std::vector<std::byte>(8192); }, ha::Reason::mailbox_unknown,
       "1 of 2 readable"},
      {[](auto& d) { d.mailbox = fail(ErrorCode::io_error, "medium"); },
       ha::Reason::mailbox_unknown, "1 of 2 readable"},
  };
  for (const auto& row : rows) {
    std::vector<RehearsedDisk> disks{fit("blue/0"), fit("blue/1")};
    row.change(disks[1]);
    auto vetoes = judge_rehearsal(config(), disks);
    ASSERT_EQ(vetoes.size(), 1u) << row.detail;
    EXPECT_EQ(vetoes[0].reason, row.reason);
    EXPECT_TRUE(vetoes[0].hard);
    EXPECT_EQ(vetoes[0].detail.substr(0, row.detail.size()), row.detail);
  }
}

// As the takeover that would follow: docs/protocols/absent_disks.md.
TEST(rehearsal, what_raid_can_do_without_stands_in_nobodys_way) {
  auto silent = [](auto& d) {
    d.labels = d.mailbox = fail(ErrorCode::timed_out, "no answer");
    d.reservation = fail(ErrorCode::timed_out, "no answer");
  };
  auto unreadable = [](auto& d) { d.labels = fail(ErrorCode::io_error, "medium"); };
  auto no_mailbox = [](auto& d) { d.mailbox = fail(ErrorCode::io_error, "medium"); };
  struct Row {
    std::function<void(std::vector<RehearsedDisk>&)> change;
    std::vector<ha::Reason> hard, notes;
  };
  using enum ha::Reason;
  const Row rows[] = {
      {[&](auto& d) { silent(d[3]); }, {}, {disk_done_without}},
      {[&](auto& d) { silent(d[0]); }, {}, {disk_done_without}},
      {[&](auto& d) { unreadable(d[3]); }, {}, {disk_done_without}},
      {[&](auto& d) { unreadable(d[1]), no_mailbox(d[1]); },
       {mailbox_unknown},
       {disk_done_without}},
      {[&](auto& d) { silent(d[0]), no_mailbox(d[1]); }, {mailbox_unknown}, {disk_done_without}},
      {[&](auto& d) { silent(d[2]), silent(d[3]); },
       {partner_disks_unreachable, partner_disks_unreachable, mailbox_unknown},
       {}},
      // The takeover does without none whose place it does not know.
      {[&](auto& d) { silent(d[3]), unreadable(d[2]); },
       {partner_disks_unreachable, partner_disks_unreachable},
       {}},
      {[&](auto& d) { silent(d[3]), d[2].labels = labels(ClusterId(8), NodeId(2)); },
       {label_unfit, partner_disks_unreachable},
       {}},
  };
  for (std::size_t row = 0; row < std::size(rows); ++row) {
    std::vector<RehearsedDisk> disks;
    for (std::uint16_t i = 0; i < 4; ++i) {
      disks.push_back(fit("blue/" + std::to_string(i)));
      disks.back().labels = labels_in_group(i);
      disks.back().mailbox_disk = i < 3;
    }
    rows[row].change(disks);
    std::vector<ha::Reason> hard, notes;
    for (const auto& v : judge_rehearsal(config(), disks)) {
      (v.hard ? hard : notes).push_back(v.reason);
    }
    EXPECT_EQ(hard, rows[row].hard) << "row " << row;
    EXPECT_EQ(notes, rows[row].notes) << "row " << row;
  }
}

}  // namespace
}  // namespace duet::node
