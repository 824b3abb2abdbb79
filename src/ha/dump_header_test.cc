#include "ha/dump_header.h"

#include <gtest/gtest.h>

#include "base/coverage_expect.h"

namespace duet::ha {
namespace {

using coredump::AbortReason;
using coredump::Attribute;

coredump::Header dump(Attribute attribute, std::uint64_t sequence = 7) {
  coredump::Header h;
  h.sequence = sequence;
  h.cluster = ClusterId(5);
  h.disk.bytes[0] = 9;
  h.attribute = attribute;
  h.node = NodeId(1);
  h.abort_reason = attribute == Attribute::aborted ? AbortReason::disk_full : AbortReason::none;
  h.limit = milliseconds(60000);
  h.epoch = Epoch(3);
  h.boot_nonce = BootNonce(4);
  h.room = std::uint64_t{2} << 20;
  return h;
}

// Plays the disk: answers each command, failing the n-th (from 1).
struct Bench {
  explicit Bench(DumpHeader::Rules rules, std::array<std::vector<std::byte>, 2> blocks)
      : header(DiskRef{NodeId(1), 4}, rules), copies(std::move(blocks)) {}
  void run(std::set<int> failing = {}) {
    Actions actions;
    Output out(Instant(seconds(1)), actions, last);
    header.start(out);
    int n = 0;
    for (std::size_t i = 0; i < actions.size(); ++i) {
      const auto command = std::get<DiskCommand>(actions[i]);
      Result<DiskReply> reply = DiskReply{};
      if (failing.contains(++n)) {
        reply = fail(ErrorCode::io_error, "medium error");
      } else if (const auto* read = std::get_if<ReadBlock>(&command.operation)) {
        reply = DiskReply{copies[read->offset == coredump::header_copy(0).offset ? 0 : 1]};
      } else {
        const auto& write = std::get<WriteBlock>(command.operation);
        bool first = write.offset == coredump::header_copy(0).offset;
        EXPECT_TRUE(first || written == 1) << "copy 0 is durable before copy 1 is begun";
        copies[first ? 0 : 1] = write.bytes;
        ++written;
      }
      EXPECT_TRUE(header.on_completed({command.command, std::move(reply)}, out));
      EXPECT_FALSE(header.on_completed({command.command, DiskReply{}}, out));
    }
  }
  DumpHeader header;
  std::array<std::vector<std::byte>, 2> copies;
  std::uint64_t last = 0;
  int written = 0;
};

std::array<std::vector<std::byte>, 2> both(const coredump::Header& h) {
  auto block = *coredump::encode_header(h);
  return {block, block};
}

DumpHeader::Rules rules(bool drop, AbortReason why = AbortReason::stalled) {
  DumpHeader::Rules r{.cluster = ClusterId(5), .disk = {}, .drop = drop, .why = why};
  r.disk.bytes[0] = 9;
  return r;
}

TEST(dump_header, table) {
  using enum Attribute;
  struct Row {
    Attribute found;
    bool drop;
    Attribute left;
  };
  for (const auto& row :
       {Row{active, false, aborted}, Row{completed, false, completed}, Row{aborted, false, aborted},
        Row{inactive, false, inactive}, Row{active, true, inactive}, Row{completed, true, inactive},
        Row{aborted, true, inactive}, Row{inactive, true, inactive}}) {
    SCOPED_TRACE(std::string(coredump::name(row.found)) + (row.drop ? ", dropped" : ""));
    Bench b(rules(row.drop), both(dump(row.found)));
    b.run();
    EXPECT_EQ(b.header.outcome(), DumpHeader::Outcome::done);
    bool changed = row.found != row.left;
    EXPECT_EQ(b.written, changed ? 2 : 0);
    auto now = coredump::choose_header(b.copies[0], b.copies[1]);
    ASSERT_TRUE(now && b.header.header());
    EXPECT_EQ(*now, *b.header.header());
    EXPECT_EQ(now->attribute, row.left);
    EXPECT_EQ(now->sequence, changed ? 8u : 7u);
    if (row.found == active && !row.drop) EXPECT_EQ(now->abort_reason, AbortReason::stalled);
  }
}

TEST(dump_header, what_is_foreign_or_damaged_is_left_alone) {
  std::vector<std::array<std::vector<std::byte>, 2>> found;
  auto other = dump(Attribute::active);
  other.cluster = ClusterId(6);
  found.push_back(both(other));
  other = dump(Attribute::active);
  other.disk.bytes[0] = 8;
  found.push_back(both(other));
  found.push_back({std::vector<std::byte>(4096), std::vector<std::byte>(4096)});
  auto damaged = both(dump(Attribute::active));
  for (auto& copy : damaged) copy[100] ^= std::byte{1};
  found.push_back(damaged);
  found.push_back({std::vector<std::byte>(10), {}});
  found.push_back(both(dump(Attribute::active, ~std::uint64_t{0})));
  for (const auto& copies : found) {
    Bench b(rules(true), copies);
    b.run();
    EXPECT_EQ(b.header.outcome(), DumpHeader::Outcome::done);
    EXPECT_FALSE(b.header.header());
    EXPECT_EQ(b.copies, copies);
  }
}

TEST(dump_header, errors) {
  EXPECT_MARK(dump_header_not_written);
  EXPECT_MARK(dump_header_unreadable);
  Bench one(rules(false), both(dump(Attribute::active)));
  one.run({1});  // one copy is enough
  EXPECT_EQ(one.header.outcome(), DumpHeader::Outcome::done);
  EXPECT_EQ(one.header.header()->attribute, Attribute::aborted);
  Bench none(rules(false), both(dump(Attribute::active)));
  none.run({1, 2});
  EXPECT_EQ(none.header.outcome(), DumpHeader::Outcome::failed);
  for (int write : {3, 4}) {
    Bench failing(rules(false), both(dump(Attribute::active)));
    failing.run({write});
    EXPECT_EQ(failing.header.outcome(), DumpHeader::Outcome::failed);
    EXPECT_EQ(failing.written, write - 3);
  }
}

}  // namespace
}  // namespace duet::ha
