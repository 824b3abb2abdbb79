// Dumps on simulated disks become core files, or do not; and what `duet core` asks of them.
#include "node/core_files.h"

#include <gtest/gtest.h>

#include <set>

#include "base/coverage_expect.h"
#include "node/core_bench.h"

namespace duet::node {
namespace {

using admin::CoreVerb;
using coredump::AbortReason;
using coredump::Attribute;

class CoreFilesTest : public testing::Test, protected CoreBench {
 protected:
  // With the end chunk, which is one block.
  static std::uint64_t raw_size(const std::vector<std::uint64_t>& offsets) {
    return offsets.back() - disk::data_offset + disk::area_block_size;
  }
  // Served, and a dump is being collected that takes a while.
  void begin(const Dump& dump) {
    serve_files();
    put_dump(dump);
    slow_spare();
    service->collect_dump(spare);
  }
};

TEST_F(CoreFilesTest, ADumpBecomesACoreFile) {
  const Dump dump;
  const auto offsets = put_dump(dump);
  serve_and_collect();
  ASSERT_TRUE(wait_until_said("coredump.saved"));
  EXPECT_EQ(attribute(), Attribute::inactive);
  EXPECT_EQ(header()->sequence, 6u);
  EXPECT_EQ(core_ids(), std::vector<std::string>{id});
  EXPECT_TRUE(*saved(id) == dump.core);
  EXPECT_EQ(details(),
            coredump::to_json(information(dump),
                              {true, dump.core.size(), raw_size(offsets), "the dump is complete"}));
  consistency_point();
  const auto shown = core(CoreVerb::show, id).cores[0];
  EXPECT_EQ(shown.size, dump.core.size());
  EXPECT_LT(shown.used, 400'000u) << "what is zero takes no space";
  EXPECT_GT(shown.used, 300'000u);
  EXPECT_EQ(overs(), 1u);
}

TEST_F(CoreFilesTest, AnAbortedDumpBecomesATruncatedCore) {
  Dump dump;
  dump.end = false;
  dump.attribute = Attribute::aborted;
  dump.reason = AbortReason::time_limit;
  put_dump(dump);
  serve_and_collect();
  ASSERT_TRUE(wait_until_said("coredump.saved"));
  EXPECT_TRUE(*saved(id) == dump.core);
  EXPECT_NE(details().find("\"complete\":false"), std::string::npos);
  EXPECT_NE(details().find("aborted: time limit"), std::string::npos) << details();
}

// C8: what is behind a bad chunk does not count.
TEST_F(CoreFilesTest, ADamagedDumpEndsAtTheFirstBadChunk) {
  const Dump dump;
  const auto offsets = put_dump(dump);
  ASSERT_EQ(offsets.size(), 5u);
  shelf.media[spare]->poke(offsets[2] + 512, noise(512, 9));
  serve_and_collect();
  ASSERT_TRUE(wait_until_said("coredump.saved"));
  Buffer front = dump.core;
  front.resize(coredump::max_plain_size);
  EXPECT_TRUE(*saved(id) == front);
  EXPECT_NE(details().find("a chunk with a wrong checksum"), std::string::npos) << details();
}

TEST_F(CoreFilesTest, BlocksThatCannotBeReadEndTheDump) {
  const Dump dump;
  const auto offsets = put_dump(dump);
  shelf.media[spare]->fault = [&](simulation::DiskOperation, std::uint64_t offset,
                                  std::uint64_t size) -> std::optional<ErrorCode> {
    if (offset <= offsets[3] && offsets[3] < offset + size) return ErrorCode::io_error;
    return {};
  };
  serve_and_collect();
  ASSERT_TRUE(wait_until_said("coredump.saved"));
  EXPECT_EQ(saved(id)->size(), 2 * coredump::max_plain_size);
  EXPECT_NE(details().find("the disk cannot read it"), std::string::npos) << details();
}

TEST_F(CoreFilesTest, WithoutAReadableFrontThereIsNoCore) {
  const auto offsets = put_dump({});
  shelf.media[spare]->poke(offsets[0], noise(512, 9));
  serve_and_collect();
  ASSERT_TRUE(wait_until_said("coredump.dropped"));
  EXPECT_EQ(attribute(), Attribute::inactive);
  EXPECT_TRUE(core_ids().empty());
}

// Whoever wrote it is gone, for the disk is ours.
TEST_F(CoreFilesTest, AnActiveHeaderIsAbortedFirst) {
  Dump dump;
  dump.attribute = Attribute::active;
  dump.end = false;
  put_dump(dump);
  std::vector<Attribute> written;
  shelf.media[spare]->watch = [&](const simulation::DiskEvent& event) {
    if (event.ended || event.flush || event.offset != coredump::header_copy(1).offset) return;
    auto h = coredump::decode_header(event.data[0].bytes);
    ASSERT_TRUE(h);
    written.push_back(h->attribute);
  };
  serve_and_collect();
  ASSERT_TRUE(wait_until_said("coredump.saved"));
  EXPECT_EQ(written, (std::vector{Attribute::aborted, Attribute::inactive}));
  EXPECT_NE(details().find("process gone"), std::string::npos);
}

TEST_F(CoreFilesTest, WhatIsNotThisNodesDumpIsLeftAlone) {
  Dump dump;
  put_dump(dump);
  auto h = *header();
  for (int what : {0, 1, 2, 3}) {
    auto other = h;
    if (what == 0) other.disk.bytes[3] ^= 1;
    if (what == 1) other.node = blue;
    if (what == 2) other.cluster = ClusterId(77);
    if (what == 3) other.attribute = Attribute::inactive;
    put_header(spare, other);
    if (what == 0) {
      serve_and_collect();
    } else {
      service->collect_dump(spare);
    }
    run();
    EXPECT_EQ(header()->sequence, 5u) << what;
  }
  // Nor a dump that a data disk claims to bear.
  h.disk = shelf.labels[0].id;
  put_header(0, h);
  service->collect_dump(0);
  run();
  EXPECT_EQ(header(0)->sequence, 5u);
  EXPECT_TRUE(core_ids().empty());
  EXPECT_EQ(overs(), 5u);
}

// ---- interruptions ----

TEST_F(CoreFilesTest, BeginsAnewAfterAReboot) {
  const Dump dump;
  begin(dump);
  for (int boot = 0; boot < 8; ++boot) {
    ASSERT_EQ(said("coredump.saved"), "") << "the boots come too late to interrupt anything";
    run(milliseconds(20 * boot));
    reboot();
    service->collect_dump(spare);
  }
  ASSERT_TRUE(wait_until_said("coredump.saved"));
  EXPECT_TRUE(*saved(id) == dump.core);
  EXPECT_EQ(attribute(), Attribute::inactive);
}

TEST_F(CoreFilesTest, GoesOnAfterATakeoverAndAGiveback) {
  const Dump dump;
  begin(dump);
  run(milliseconds(100));
  ASSERT_EQ(said("coredump.saved"), "");
  take_over();
  service->collect_dump(spare);
  run(milliseconds(100));
  ASSERT_EQ(said("coredump.saved"), "");
  give_back();
  service->collect_dump(spare);
  ASSERT_TRUE(wait_until_said("coredump.saved"));
  EXPECT_TRUE(*saved(id) == dump.core);
}

// A crash between the JSON and the header.
TEST_F(CoreFilesTest, WhatWasSavedIsNotSavedAgain) {
  put_dump({});
  serve_and_collect();
  ASSERT_TRUE(wait_until_said("coredump.saved"));
  const auto created = core(CoreVerb::show, id).cores[0].created;
  put_dump({});
  EXPECT_MARK(core_saved_already);
  service->collect_dump(spare);
  run();
  EXPECT_EQ(attribute(), Attribute::inactive);
  EXPECT_EQ(core(CoreVerb::show, id).cores[0].created, created);
  EXPECT_EQ(overs(), 2u);
}

TEST_F(CoreFilesTest, CancelledItStaysOnItsDisk) {
  const Dump dump;
  begin(dump);
  run(milliseconds(100));
  ASSERT_EQ(said("coredump.saved"), "");
  EXPECT_MARK(collecting_left);
  service->cancel_collect(spare);
  run();
  EXPECT_EQ(overs(), 1u);
  EXPECT_EQ(header()->sequence, 5u);
  EXPECT_TRUE(core_ids().empty());
  service->collect_dump(spare);
  ASSERT_TRUE(wait_until_said("coredump.saved"));
  EXPECT_EQ(overs(), 2u);
  EXPECT_TRUE(*saved(id) == dump.core);
}

// One that waits for another ends at once.
TEST_F(CoreFilesTest, CancelledBeforeItsTurn) {
  add_spare();
  Dump second;
  second.disk = 3;
  second.boot = BootNonce(0xdef);
  start_engine(red);
  begin({});
  put_dump(second);
  service->collect_dump(3);
  service->cancel_collect(3);
  EXPECT_EQ(overs(), 1u);
  service->cancel_collect(3);  // it is not there
  ASSERT_TRUE(wait_until_said("coredump.saved"));
  run();
  EXPECT_EQ(overs(), 2u);
  EXPECT_EQ(attribute(3), Attribute::completed);
  service->collect_dump(3);
  run();
  EXPECT_EQ(core_ids(), (std::vector<std::string>{id, "0000000000000def"}));
}

TEST_F(CoreFilesTest, ADiskThatIsAwayForAWhileIsWaitedFor) {
  begin({});
  run(milliseconds(50));
  shelf.engine[spare]->disconnect();
  EXPECT_MARK(collecting_tried_again);
  run(seconds(3));
  ASSERT_EQ(said("coredump.saved"), "");
  shelf.engine[spare]->reconnect();
  ASSERT_TRUE(wait_until_said("coredump.saved"));
}

TEST_F(CoreFilesTest, ADiskThatStaysAwayKeepsItsDump) {
  begin({});
  run(milliseconds(50));
  shelf.engine[spare]->disconnect();
  ASSERT_TRUE(wait_until_said("coredump.interrupted"));
  EXPECT_EQ(attribute(), Attribute::completed);
}

// ---- room ----

TEST_F(CoreFilesTest, TheOldestMakeRoom) {
  config->core_keep = 2;
  config->core_space_percent = 90;
  serve_files();
  EXPECT_MARK(oldest_core_removed);
  for (std::uint64_t boot : {3, 1, 2}) {
    Dump dump;
    dump.boot = BootNonce(boot);
    put_dump(dump);
    told.clear();
    service->collect_dump(spare);
    ASSERT_TRUE(wait_until_said("coredump.saved")) << said("coredump.dropped");
  }
  EXPECT_EQ(core_ids(), (std::vector<std::string>{"0000000000000001", "0000000000000002"}));
}

// What cannot fit takes no other core with it.
TEST_F(CoreFilesTest, ADumpThatIsTooLargeIsDropped) {
  config->core_space_percent = 8;  // of 10 MiB
  Dump small;
  small.core = noise(200'000);
  small.boot = BootNonce(1);
  put_dump(small);
  serve_and_collect();
  ASSERT_TRUE(wait_until_said("coredump.saved")) << said("coredump.dropped");
  Dump large;
  large.core = noise(3'000'000);
  put_dump(large);
  service->collect_dump(spare);
  ASSERT_TRUE(wait_until_said("coredump.dropped"));
  EXPECT_NE(said("coredump.dropped").find("coredump.space_limit_percent"), std::string::npos);
  EXPECT_EQ(attribute(), Attribute::inactive);
  EXPECT_EQ(core_ids(), std::vector<std::string>{"0000000000000001"});
}

// Zeros take no space, however many there are.
TEST_F(CoreFilesTest, HolesDoNotCount) {
  config->core_space_percent = 8;
  Dump dump;
  dump.core.resize(64 << 20);
  put_dump(dump);
  serve_and_collect();
  ASSERT_TRUE(wait_until_said("coredump.saved")) << said("coredump.dropped");
  EXPECT_TRUE(*saved(id) == dump.core);
}

// The volume is never filled, whatever the limit is.
TEST_F(CoreFilesTest, AFullVolumeStaysAsItIs) {
  config->core_space_percent = 90;
  serve_files();
  const auto file = create_file("a");
  const Buffer data = noise(256 * 1024);
  const std::string_view text(reinterpret_cast<const char*>(data.data()), data.size());
  for (std::uint64_t at = 0; at < 7 << 20; at += data.size()) {
    ASSERT_TRUE(change(write_of(file, at, text)));
  }
  consistency_point();
  Dump dump;
  dump.core = noise(3'000'000);
  put_dump(dump);
  service->collect_dump(spare);
  ASSERT_TRUE(wait_until_said("coredump.dropped"));
  EXPECT_NE(said("coredump.dropped").find("free in the root volume"), std::string::npos)
      << said("coredump.dropped");
}

TEST_F(CoreFilesTest, AVolumeThatFillsUpMeanwhileEndsIt) {
  config->core_space_percent = 90;
  Dump dump;
  dump.core = noise(3'000'000);
  serve_files();
  put_dump(dump);
  const auto file = create_file("a");
  const Buffer data = noise(256 * 1024);
  const std::string_view text(reinterpret_cast<const char*>(data.data()), data.size());
  service->collect_dump(spare);
  for (std::uint64_t at = 0; at < 9 << 20; at += data.size()) {
    (void)change(write_of(file, at, text));
  }
  ASSERT_TRUE(wait_until_said("coredump.dropped"));
  EXPECT_NE(said("coredump.dropped").find("no space"), std::string::npos);
  EXPECT_EQ(attribute(), Attribute::inactive);
  EXPECT_TRUE(core_ids().empty());
}

TEST_F(CoreFilesTest, WhatASnapshotHoldsIsNoRoom) {
  config->core_keep = 1;
  config->core_space_percent = 90;
  Dump first;
  first.core = noise(4'000'000);
  first.boot = BootNonce(1);
  put_dump(first);
  serve_and_collect();
  ASSERT_TRUE(wait_until_said("coredump.saved")) << said("coredump.dropped");
  bool made = false;
  storage->create_snapshot(pool::Pool::first_volume, "s", 1, [&](auto r) { made = r.has_value(); });
  ASSERT_TRUE(scheduler.run_until([&] { return made; }));
  Dump second;
  second.core = noise(6'500'000, 2);
  put_dump(second);
  EXPECT_MARK(removed_cores_give_no_space);
  service->collect_dump(spare);
  ASSERT_TRUE(wait_until_said("coredump.dropped"));
  EXPECT_NE(said("coredump.dropped").find("snapshot"), std::string::npos);
}

TEST_F(CoreFilesTest, KeepNoneDropsEveryDump) {
  config->core_keep = 0;
  put_dump({});
  serve_and_collect();
  ASSERT_TRUE(wait_until_said("coredump.dropped"));
  EXPECT_EQ(attribute(), Attribute::inactive);
}

// ---- others first ----

// With clients and a pool that do what the test says.
class CoreFilesAloneTest : public CoreFilesTest {
 protected:
  CoreFilesAloneTest() {
    add_spare();
    start_engine(red);
  }
  void SetUp() override {
    serve_files();
    CoreFiles::Ports ports{
        scheduler,
        store(),
        [this] { return clients_wait; },
        [this](const DiskId&) { return in_use; },
        [this](const CoreFiles::Report& r) { reports.push_back(r); },
        [this](std::uint8_t, std::string phase, std::string text) {
          told.emplace_back(LogFact{0, std::move(phase), std::move(text)});
        },
    };
    cores = std::make_unique<CoreFiles>(std::move(ports),
                                        CoreCollector::Rules{TestShelf::cluster, red, 4, 90});
  }
  void collect(std::uint8_t disk = spare) { cores->collect(disk, *disks[disk]); }

  bool clients_wait = false;
  bool in_use = false;
  std::vector<CoreFiles::Report> reports;
  std::unique_ptr<CoreFiles> cores;
};

// But not for ever: a giveback waits for us.
TEST_F(CoreFilesAloneTest, ClientsThatWaitGoFirst) {
  put_dump({});
  EXPECT_MARK(collecting_makes_way);
  clients_wait = true;
  collect();
  run(milliseconds(900));
  EXPECT_EQ(said("coredump.saved"), "");
  run(2 * 5 * CoreCollector::clients_patience);
  EXPECT_NE(said("coredump.saved"), "");
  ASSERT_FALSE(reports.empty());
  EXPECT_TRUE(reports.back().over);
  EXPECT_EQ(std::ranges::count_if(reports, [](const auto& r) { return r.over; }), 1);
  EXPECT_TRUE(std::ranges::any_of(reports, [](const auto& r) {
    return r.bytes_done > 0 && r.bytes_done < r.bytes_total;
  })) << "how far it is";
}

TEST_F(CoreFilesAloneTest, ADiskThatThePoolUsesBearsNoDump) {
  put_dump({});
  in_use = true;
  EXPECT_MARK(dump_on_a_disk_in_use);
  collect();
  ASSERT_TRUE(wait_until_said("coredump.dropped"));
  EXPECT_EQ(attribute(), Attribute::inactive);
}

TEST_F(CoreFilesAloneTest, ADiskThatThePoolTakesMeanwhileBearsNoDump) {
  put_dump({});
  slow_spare();
  collect();
  run(milliseconds(100));
  in_use = true;
  EXPECT_MARK(dump_disk_taken_meanwhile);
  ASSERT_TRUE(wait_until_said("coredump.dropped"));
  EXPECT_EQ(attribute(), Attribute::inactive);
  EXPECT_TRUE(core_ids().empty());
}

// C6, at every step of a collection.
TEST_F(CoreFilesAloneTest, RedundancyBeatsTheDump) {
  EXPECT_MARK(dump_disk_needed_by_raid);
  for (int step = 0; step < 40; ++step) {
    Dump dump;
    dump.boot = BootNonce(100 + static_cast<std::uint64_t>(step));
    if (step % 2 == 1) dump.attribute = Attribute::active;
    put_dump(dump);
    slow_spare();
    told.clear();
    collect();
    run(milliseconds(8 * step));
    bool free = false;
    cores->disk_needed(spare, *disks[spare], [&](const Result<void>& r) {
      EXPECT_TRUE(r) << step;
      EXPECT_EQ(attribute(), Attribute::inactive) << step;
      free = true;
    });
    ASSERT_TRUE(scheduler.run_until([&] { return free; })) << step;
    run();
    EXPECT_TRUE(reports.back().over);
    const bool saved_it = !said("coredump.saved").empty();
    EXPECT_NE(saved_it, !said("coredump.dropped").empty()) << step;
    const auto ids = core_ids();
    EXPECT_EQ(std::ranges::count(ids, CoreFolder::id_of(dump.boot)), saved_it ? 1 : 0) << step;
  }
}

TEST_F(CoreFilesAloneTest, ADiskThatIsNeededDoesNotWaitForItsTurn) {
  Dump second;
  second.disk = 3;
  second.boot = BootNonce(0xdef);
  put_dump({});
  put_dump(second);
  slow_spare();
  collect();
  collect(3);
  EXPECT_MARK(waiting_dump_given_up);
  bool free = false;
  cores->disk_needed(3, *disks[3], [&](const Result<void>& r) { free = r.has_value(); });
  ASSERT_TRUE(scheduler.run_until([&] { return free; }));
  EXPECT_EQ(attribute(3), Attribute::inactive);
  EXPECT_EQ(said("coredump.saved"), "");
  collect(3);
  ASSERT_TRUE(wait_until_said("coredump.saved"));
  EXPECT_EQ(core_ids(), std::vector<std::string>{id});
  run();
  // One that nobody collects, and one without a dump.
  put_dump(second);
  for (int i = 0; i < 2; ++i) {
    free = false;
    cores->disk_needed(3, *disks[3], [&](const Result<void>& r) { free = r.has_value(); });
    ASSERT_TRUE(scheduler.run_until([&] { return free; }));
    EXPECT_EQ(attribute(3), Attribute::inactive);
  }
}

// A disk that does not take its header is not waited for without end, and not free.
TEST_F(CoreFilesAloneTest, ADiskThatDoesNotAnswerIsGivenUp) {
  EXPECT_MARK(needed_disk_keeps_its_header);
  put_dump({});
  slow_spare();
  collect();
  run(milliseconds(50));
  shelf.engine[spare]->disconnect();
  std::optional<Status> first, second;
  cores->disk_needed(spare, *disks[spare], [&](Result<void> r) { first = std::move(r); });
  cores->disk_needed(spare, *disks[spare], [&](Result<void> r) { second = std::move(r); });
  ASSERT_TRUE(scheduler.run_until([&] { return first && second; }));
  EXPECT_EQ(first->error().code, ErrorCode::busy);
  EXPECT_FALSE(*second);
  EXPECT_EQ(attribute(), Attribute::completed);
  EXPECT_NE(said("coredump.interrupted"), "");
  // The same for one that nobody collects.
  first.reset();
  second.reset();
  cores->disk_needed(spare, *disks[spare], [&](Result<void> r) { first = std::move(r); });
  run(milliseconds(10));
  cores->disk_needed(spare, *disks[spare], [&](Result<void> r) { second = std::move(r); });
  shelf.engine[spare]->reconnect();
  ASSERT_TRUE(scheduler.run_until([&] { return first && second; }));
  EXPECT_EQ(first->error().code, ErrorCode::busy);
  EXPECT_TRUE(*second);
  EXPECT_EQ(attribute(), Attribute::inactive);
}

// ---- orders ----

TEST_F(CoreFilesTest, CoresAreFoundByTheFrontOfTheirId) {
  serve_files();
  for (std::uint64_t boot : {0xabc1, 0xabc2}) {
    Dump dump;
    dump.core = noise(10'000, boot);
    dump.boot = BootNonce(boot);
    put_dump(dump);
    told.clear();
    service->collect_dump(spare);
    ASSERT_TRUE(wait_until_said("coredump.saved"));
  }
  EXPECT_TRUE(*saved("000000000000abc2") == noise(10'000, 0xabc2));
  EXPECT_EQ(saved("000000000000abc").error().message, "several cores begin with 000000000000abc");
  EXPECT_EQ(saved("1").error().message, "no core '1': see `duet core list`");
  EXPECT_EQ(saved("").error().message, "no core '': see `duet core list`");
  EXPECT_TRUE(core(CoreVerb::read, "000000000000abc1", 1 << 20).end) << "behind the end";
  ASSERT_TRUE(core(CoreVerb::remove, "000000000000abc1").ok);
  EXPECT_EQ(core_ids(), std::vector<std::string>{"000000000000abc2"});
  EXPECT_FALSE(core(CoreVerb::remove, "000000000000abc1").ok);
  reboot();
  EXPECT_EQ(core_ids(), std::vector<std::string>{"000000000000abc2"});
}

TEST_F(CoreFilesTest, OneThatIsBeingCollectedSaysSo) {
  begin({});
  run(milliseconds(100));
  ASSERT_EQ(said("coredump.saved"), "");
  const auto listed = core(CoreVerb::list).cores;
  ASSERT_EQ(listed.size(), 1u);
  EXPECT_TRUE(listed[0].collecting);
  EXPECT_GT(listed[0].size, 0u);
  EXPECT_MARK(core_order_while_collecting);
  EXPECT_NE(core(CoreVerb::remove, id).why.find("is being made"), std::string::npos);
}

TEST_F(CoreFilesTest, WhatClientsPutThereHarmsNothing) {
  serve_files();
  auto volume = ask<files::Found>([&](auto d) { store().open_volume("vol0", std::move(d)); });
  ASSERT_TRUE(volume);
  auto folder = change(files::MakeDirectory{volume->file.file, "cores", {0755, 0, 0}});
  ASSERT_TRUE(folder);
  const auto in = folder->file.file;
  const std::string large(200'000, 'x');
  for (const char* name :
       {"a", "0000000000000001.json", "0000000000000002.tmp", "0000000000000003.core",
        "0000000000000004.core", "0000000000000004.json", "000000000000000G.core"}) {
    auto made = change(files::Create{in, name, {0644, 0, 0}, {}, 0, {}});
    ASSERT_TRUE(made);
    ASSERT_TRUE(change(write_of(made->file, 0, large)));
  }
  ASSERT_TRUE(change(files::MakeDirectory{in, "0000000000000005.core", {0755, 0, 0}}));
  EXPECT_EQ(core_ids(), std::vector<std::string>{"0000000000000004"});
  EXPECT_EQ(details("0000000000000004").size(), CoreFolder::max_details);
  put_dump({});
  service->collect_dump(spare);
  ASSERT_TRUE(wait_until_said("coredump.saved")) << said("coredump.interrupted");
  EXPECT_EQ(core_ids(), (std::vector<std::string>{"0000000000000004", id}));
  auto listed = list({in, folder->file.generation});
  ASSERT_TRUE(listed);
  std::set<std::string> left;
  for (const auto& n : listed->names) left.insert(n.name);
  EXPECT_TRUE(left.contains("a") && left.contains("000000000000000G.core"));
  EXPECT_FALSE(left.contains("0000000000000003.core")) << "a core that is not finished";
}

TEST_F(CoreFilesTest, ACoresThatIsNoDirectoryKeepsTheDump) {
  serve_files();
  auto volume = ask<files::Found>([&](auto d) { store().open_volume("vol0", std::move(d)); });
  ASSERT_TRUE(change(files::Create{volume->file.file, "cores", {0644, 0, 0}, {}, 0, {}}));
  put_dump({});
  service->collect_dump(spare);
  ASSERT_TRUE(wait_until_said("coredump.interrupted"));
  EXPECT_EQ(attribute(), Attribute::completed);
  EXPECT_NE(core(CoreVerb::list).why.find("no directory"), std::string::npos);
}

TEST_F(CoreFilesTest, NotServedIsSaid) {
  EXPECT_NE(core(CoreVerb::list).why.find("is not served here now"), std::string::npos);
  service->collect_dump(spare);
  EXPECT_EQ(overs(), 1u);
  service->cancel_collect(spare);
  serve_files();
  service->collect_dump(200);
  EXPECT_EQ(overs(), 2u);
  // An order that waits is answered when the identity goes.
  slow_reads(seconds(1));
  std::string why;
  admin::CoreOrder o;
  o.identity = red;
  for (std::size_t i = 0; i < CoreFiles::max_orders + 1; ++i) {
    service->core_order(o, [&](const admin::CoreReply& r) { why = r.why; });
  }
  EXPECT_EQ(why, "too many orders wait: try again");
  service->hand_over();
  ASSERT_TRUE(scheduler.run_until([&] { return last<HandedOverFact>() != nullptr; }));
  EXPECT_NE(why, "too many orders wait: try again");
}

}  // namespace
}  // namespace duet::node
