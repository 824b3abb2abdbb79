// Each checker must see what it is for.
#include "simulator/checkers.h"

#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "coredump/chunk_writer.h"
#include "coredump/header.h"
#include "disk/areas.h"
#include "disk/reservation_key.h"
#include "nvlog/replay.h"
#include "pool/superblock.h"
#include "simulator/replay_rehearsal.h"
#include "simulator/sim_node.h"

namespace duet::simulator {
namespace {

const NodeId red(1), blue(2);

struct CheckersTest : testing::Test {
  std::unique_ptr<World> world;
  std::unique_ptr<Workload> load;
  std::unique_ptr<Checkers> checkers;
  std::unique_ptr<SimDisk> stranger;

  void SetUp() override { begin(3); }
  void begin(std::uint64_t seed) {
    checkers.reset();
    load.reset();
    WorldOptions options;
    options.seed = seed;
    world = std::make_unique<World>(options);
    for (NodeId n : {red, blue}) world->node(n).power_on();
    load = std::make_unique<Workload>(*world, WorkloadOptions{});
    checkers = std::make_unique<Checkers>(*world, *load);
    load->prepare();
    const Instant limit = world->now() + seconds(60);
    while (!load->prepared() && world->step(limit)) {
    }
    load->start();
    world->run_for(seconds(5));
    ASSERT_EQ(nullptr, world->violation()) << world->violation()->what;
  }
  std::string violated() {
    return world->violation() != nullptr ? world->violation()->invariant : "";
  }
  SimUnit& disk(std::size_t i) { return *world->shelf(red)[i]; }
  const scsi::Nexus& registered_nexus(std::size_t i) {
    return disk(i).reservations().registrations()[0].nexus;
  }
  void land(std::size_t i, const scsi::Nexus& nexus, std::uint64_t offset, Bytes bytes,
            bool aborting = false) {
    disk(i).on_landed(disk(i), {nexus, offset, bytes, aborting});
  }
  // One of blue to disk 1, of a role that no process has.
  SimDisk& path_of_a_stranger() {
    SimDisk::Options options;
    options.node = blue;
    options.role = 9;
    stranger = std::make_unique<SimDisk>(world->outside(), disk(1), world->sabotage(), options);
    stranger->start();
    world->run_for(seconds(1));
    return *stranger;
  }
  ha::Mailbox mailbox() {
    const disk::Area area = disk::mailbox_copy(0);
    return ha::decode_mailbox(disk(0).peek(area.offset, area.size)).value();
  }
};

TEST_F(CheckersTest, EachInvariantHasOneAndADefinition) {
  for (const Checker& checker : all_checkers()) {
    EXPECT_EQ('I', checker.invariant[0]);
    EXPECT_FALSE(checker.definition.empty());
  }
  EXPECT_EQ(19u, all_checkers().size());  // all but that of RAID (I10)
}

TEST_F(CheckersTest, I2_AnAnswerOfTheOtherNode) {
  world->clients().on_server_send({red, world->config(red).services[1].address, 48});
  EXPECT_EQ("", violated());
  world->clients().on_server_send({blue, world->config(red).services[1].address, 48});
  EXPECT_EQ("I2", violated());
}

TEST_F(CheckersTest, I3_AWriteOfAFencedNode) {
  const std::vector<std::byte> block(4096);
  const scsi::Nexus stranger{"blue", {0x40, 2, 9, 0, 0, 0}, 2};
  land(0, registered_nexus(0), disk::data_offset + (1 << 20), block);
  land(0, stranger, disk::data_offset + (1 << 20), block, true);
  EXPECT_EQ("", violated());
  land(0, stranger, disk::data_offset + (1 << 20), block);
  EXPECT_EQ("I3", violated());
}

std::uint64_t seed_with_dump_disks(std::size_t disks) {
  std::uint64_t seed = 1;
  while (shape_of(seed).dump_disks != disks) ++seed;
  return seed;
}

// Red panics; what a dump of it writes, and where.
struct DumpTest : CheckersTest {
  void SetUp() override { begin(seed_with_dump_disks(2)); }
  static std::vector<std::byte> block(std::string_view magic) {
    std::vector<std::byte> bytes(disk::area_block_size);
    std::ranges::copy(std::as_bytes(std::span(magic)), bytes.begin());
    return bytes;
  }
  std::vector<std::byte> header(std::uint64_t sequence = 1,
                                coredump::Attribute attribute = coredump::Attribute::active) {
    coredump::Header h;
    h.sequence = sequence;
    h.cluster = world->config(red).cluster;
    h.attribute = attribute;
    h.disk.bytes[0] = 0x13;
    h.node = red;
    h.limit = seconds(60);
    h.epoch = Epoch(1);
    h.boot_nonce = BootNonce(1);
    h.room = coredump::min_room;
    return coredump::encode_header(h).value();
  }
  std::vector<std::byte> chunk() {
    auto writer = coredump::ChunkWriter::make({BootNonce(1), Epoch(1)}, coredump::min_room);
    const auto any = block("any");
    std::vector<std::byte> blocks(coredump::chunk_bound(any.size()));
    blocks.resize((*writer)->put(coredump::ChunkKind::information, any, blocks).value());
    return blocks;
  }
  void put(std::size_t i, std::uint64_t offset, Bytes bytes) {
    disk(i).poke(offset, bytes);
    land(i, registered_nexus(i), offset, bytes);
  }
  void put_headers(std::size_t i) {
    for (int copy : {0, 1}) put(i, coredump::header_copy(copy).offset, header());
  }
  void panic() { world->node(red).kill_engine("signal 6 (Aborted)", true); }
  static constexpr std::size_t dump_disk = disks_per_shelf;
};

TEST_F(DumpTest, I11_OnACoredumpDiskAndNowhereElse) {
  put_headers(dump_disk);
  put(dump_disk, disk::data_offset, chunk());
  EXPECT_EQ("", violated());
  land(0, registered_nexus(0), disk::data_offset + (1 << 20), block("DUETCHNK"));
  EXPECT_EQ("I11", violated());
}

TEST_F(DumpTest, I11_AHeaderOnADiskOfData) {
  land(0, registered_nexus(0), coredump::header_copy(0).offset, header());
  EXPECT_EQ("I11", violated());
}

TEST_F(DumpTest, I11_AChunkOutsideOfTheRoom) {
  land(dump_disk, registered_nexus(dump_disk), disk::data_offset / 2, block("DUETCHNK"));
  EXPECT_EQ("I11", violated());
}

TEST_F(DumpTest, I11_ADumpOfTheSurvivorToADiskThatIsNotItsOwn) {
  const scsi::Nexus survivor{"blue", {0x40, 2, 1, 0, 0, 0}, 2};
  land(dump_disk, survivor, coredump::header_copy(0).offset, header(), true);
  EXPECT_EQ("I11", violated());
}

TEST_F(DumpTest, I11_AnythingElseThatAPanickedNodeWrites) {
  disk(0).on_begun(disk(0), {.node = red, .offset = 0, .size = 512});
  EXPECT_EQ("", violated());
  panic();
  while (!world->node(red).stopped_for_dump() && world->step(world->now() + seconds(5))) {
  }
  disk(0).on_begun(disk(0), {.node = red, .engine = true, .offset = 0, .size = 512});
  disk(dump_disk).on_begun(disk(dump_disk),
                           {.node = red, .offset = disk::data_offset, .size = 512});
  disk(0).on_begun(disk(0), {.node = blue, .offset = 0, .size = 512});
  EXPECT_EQ("", violated());
  disk(dump_disk).on_begun(disk(dump_disk), {.node = red, .offset = 0, .size = 512});
  EXPECT_EQ("I11", violated());
}

TEST_F(DumpTest, C1_AChunkBeforeBothCopiesOfTheHeader) {
  put(dump_disk, coredump::header_copy(0).offset, header());
  EXPECT_EQ("", violated());
  put(dump_disk, disk::data_offset, chunk());
  EXPECT_EQ("I11", violated());
}

TEST_F(DumpTest, C1_CompleteWithoutAnEnd) {
  put_headers(dump_disk);
  put(dump_disk, disk::data_offset, chunk());
  put(dump_disk, coredump::header_copy(0).offset, header(2, coredump::Attribute::completed));
  EXPECT_EQ("I11", violated());
}

TEST_F(DumpTest, C2_OneDumpOnTwoDisks) {
  put_headers(dump_disk);
  put(dump_disk + 1, coredump::header_copy(0).offset, header());
  EXPECT_EQ("I11", violated());
}

TEST_F(DumpTest, I11b_NobodyServesWhileTheEngineStandsStill) {
  // Blue seems well, but cannot get at red's disks; red sees it and ends the dump too late.
  world->sabotage().left_out = Safeguard::fence_before_dump;
  world->run_for(DumpCheckers::quiet);
  world->trace("fault", "engine_crash (node 1, 0 ms)");
  panic();
  world->run_for(DumpCheckers::quick_limit / 2);
  EXPECT_EQ("", violated());
  ASSERT_TRUE(world->node(red).engine_stands_still());
  world->run_for(DumpCheckers::quick_limit);
  EXPECT_EQ("I11b", violated());
}

TEST_F(DumpTest, I11c_ADiskThatIsLeftForEver) {
  world->sabotage().left_out = Safeguard::left_disk_taken;
  world->node(red).keep_off(world->now() + seconds(600));
  panic();
  world->run_for(seconds(3));
  world->node(red).power_off();
  world->run_for(world->shape().dump_limit);
  EXPECT_EQ("", violated());
  world->run_for(DumpCheckers::take_patience + seconds(5));
  EXPECT_EQ("I11c", violated());
}

// Holds back what the checkers are told of acknowledgements: the next one of red.
struct HeldAcknowledgement {
  std::function<void(const BlockRange&, Stamp)> tell_checkers;
  std::optional<BlockRange> range;
  Stamp stamp = 0;

  explicit HeldAcknowledgement(CheckersTest& test) {
    tell_checkers = std::exchange(test.load->on_acknowledged, nullptr);
    test.load->on_acknowledged = [&](const BlockRange& r, Stamp s) {
      if (r.identity == red && s != 0) range = r, stamp = s;
    };
    const Instant limit = test.world->now() + seconds(60);
    while (!range && test.world->step(limit)) {
    }
    test.load->on_acknowledged = nullptr;
  }
  void tell() { tell_checkers(range.value(), stamp); }
};

TEST_F(CheckersTest, I4_AnAcknowledgementWithoutMirror) {
  HeldAcknowledgement held(*this);
  held.tell();
  EXPECT_EQ("", violated());
  world->node(blue).nvram().lose_everything();
  held.tell();
  EXPECT_EQ("", violated());  // it was there when it counted
  world->node(blue).nvram().lose_everything();
  held.tell();
  EXPECT_EQ("I4", violated());
}

TEST_F(CheckersTest, I4_VolatileNvramCountsForWhatItHeldWhenPowerWent) {
  std::uint64_t seed = 1;
  while (shape_of(seed).persistent_nvram) ++seed;
  begin(seed);
  HeldAcknowledgement held(*this);
  Random random(1);
  world->node(blue).nvram().lose_power(random);
  held.tell();
  EXPECT_EQ("", violated());
  world->node(blue).nvram().lose_power(random);  // it did not even hold it then
  held.tell();
  EXPECT_EQ("I4", violated());
}

TEST_F(CheckersTest, I5_AnOldEpochInTheMailbox) {
  ha::Mailbox m = mailbox();
  m.epoch = m.epoch.next();
  ++m.generation;
  land(0, registered_nexus(0), disk::mailbox_copy(0).offset, ha::encode(m));
  EXPECT_EQ("", violated());
  m.epoch = Epoch(m.epoch.value() - 1);
  ++m.generation;
  land(1, registered_nexus(1), disk::mailbox_copy(0).offset, ha::encode(m));
  EXPECT_EQ("I5", violated());
}

TEST_F(CheckersTest, I6_AForeignKeyThatStays) {
  SimDisk& path = path_of_a_stranger();
  std::optional<Status> done;
  path.register_key(
      disk::make_key(world->config(red).cluster, blue, disk::KeyRole::engine, Epoch(1)),
      [&](Status status) { done = std::move(status); });
  world->run_for(seconds(5));
  ASSERT_TRUE(done && done->has_value());
  EXPECT_EQ("", violated());
  world->run_for(Checkers::foreign_key_limit);
  EXPECT_EQ("I6", violated());
  path.end(true);
}

TEST_F(CheckersTest, I7_ServiceThatBeginsWithoutAMailbox) {
  world->node(red).kill_supervisor();
  const auto served = [&] {
    return world->node(red).served(red).serving || world->node(blue).served(red).serving;
  };
  const Instant limit = world->now() + seconds(30);
  while (!served() && world->step(limit)) {
  }
  ASSERT_TRUE(served());
  ASSERT_EQ("", violated());
  // Whoever begins to serve writes into it soon.
  const Instant looked_at = world->now() + 2 * Checkers::look_interval;
  do {
    for (std::size_t i = 0; i < disks_per_shelf; ++i) {
      disk(i).poke(disk::mailbox_area.offset, std::vector<std::byte>(disk::mailbox_area.size));
    }
  } while (world->step(looked_at));
  EXPECT_EQ("I7", violated());
}

// As if whoever serves red had just replayed its log.
struct ReplayedTest : CheckersTest {
  SimNode& server() { return world->node(world->node(red).served(red).serving ? red : blue); }
  void replayed() {
    world->trace(server().name(), "replay.applied: 1 records of the log of red applied");
  }
  ReplayRehearsal rehearsal() {
    const auto layout = nvlog::RegionLayout::of_size(world->shape().nvram_size).value();
    const auto place = layout.ring(red);
    return {world->shelf(red), server().nvram().visible().subspan(place.offset, place.length), red};
  }
  void SetUp() override {
    CheckersTest::SetUp();
    world->node(red).kill_supervisor();  // what was written so far gets to the disks
    world->run_for(seconds(20));
    const Instant limit = world->now() + seconds(60);
    while (!rehearsal().replay({}) && world->step(limit)) {
    }
    ASSERT_TRUE(rehearsal().replay({}));
  }
};

TEST_F(ReplayedTest, I8_OneThatWasCutOffLeadsToTheSame) {
  const auto once = rehearsal().replay({});
  for (std::uint64_t writes = 0; writes <= ReplayRehearsal::cut_off_max; ++writes) {
    const auto twice = rehearsal().replay(writes);
    ASSERT_TRUE(twice);
    EXPECT_EQ(once->digest, twice->digest) << writes;
  }
}

// A record that says something else under a right checksum: disks would notice, RAID would repair.
TEST_F(ReplayedTest, I8_ASecondReplayThatLeadsElsewhere) {
  replayed();
  replayed();
  EXPECT_EQ("", violated());
  const auto before = rehearsal().replay({})->digest;
  const auto place = nvlog::RegionLayout::of_size(world->shape().nvram_size).value().ring(red);
  SimNvram& nvram = server().nvram();
  const Bytes ring = nvram.visible().subspan(place.offset, place.length);
  const auto plan = nvlog::plan_replay(ring, red, rehearsal().replay({})->from, LogSequence(0));
  ASSERT_TRUE(plan);
  bool changed = false;
  for (std::size_t i = plan->size(); i-- > 0 && !changed;) {  // the last one: nothing is over it
    const auto record = plan->record(ring, i);
    if (record.header.kind != nvlog::RecordKind::write) continue;
    std::vector<std::byte> payload(record.payload.begin(), record.payload.end());
    payload[0] ^= std::byte{1};
    auto header = nvlog::encode(record.header);
    nvlog::seal(header, crc32c_extend(nvlog::start_crc(header), payload),
                record.address / ring.size());
    const std::size_t at = place.offset + record.address % ring.size();
    nvram.land(at, header);
    nvram.land(at + header.size(), payload);
    nvram.commit(at, header.size() + payload.size());
    changed = true;
  }
  ASSERT_TRUE(changed);
  const auto now = rehearsal().replay({});
  ASSERT_TRUE(now) << "the record is not valid";
  EXPECT_NE(now->digest, before);
  replayed();
  EXPECT_EQ("I8", violated());
}

TEST_F(CheckersTest, I9_ASuperblockThatContainsLess) {
  std::optional<pool::Superblock> newest;
  for (std::uint64_t slot : {0, 1}) {
    auto found = pool::decode_superblock(disk(0).peek(
        disk::data_offset + slot * pool::superblock_size_max, pool::superblock_size_max));
    if (found && (!newest || found->generation > newest->generation)) newest = *found;
  }
  ASSERT_TRUE(newest);
  const auto everywhere = [&] {
    for (std::size_t i = 0; i < disks_per_shelf; ++i) {
      land(i, registered_nexus(i), disk::data_offset, *pool::encode(*newest));
    }
  };
  newest->position.sequence = LogSequence(1000);
  ++newest->generation;
  land(0, registered_nexus(0), disk::data_offset, *pool::encode(*newest));
  newest->position.sequence = LogSequence(998);  // nobody else has it: no consistency point
  ++newest->generation;
  everywhere();
  EXPECT_EQ("", violated());
  newest->position.sequence = LogSequence(1000);
  ++newest->generation;
  everywhere();
  EXPECT_EQ("", violated());
  newest->position.sequence = LogSequence(999);
  ++newest->generation;
  land(0, registered_nexus(0), disk::data_offset, *pool::encode(*newest));
  EXPECT_EQ("I9", violated());
}

TEST_F(CheckersTest, I12_AReservationReleased) {
  SimDisk& path = path_of_a_stranger();
  const auto key =
      disk::make_key(world->config(red).cluster, blue, disk::KeyRole::engine, Epoch(1));
  const auto type = ports::ReservationType::write_exclusive_registrants_only;
  path.register_key(key, [&](Status) {
    path.preempt(key, disk(1).reservations().holder_key(), type, false,
                 [&](Status) { path.release(key, type, [](Status) {}); });
  });
  world->run_for(seconds(1));
  EXPECT_EQ("I12", violated());
  path.end(true);
}

TEST_F(CheckersTest, I16_TwoNodesAtOneAddress) {
  world->node(red).pause(world->now() + seconds(600));
  const Instant limit = world->now() + seconds(30);
  while (!world->node(blue).served(red).serving && world->step(limit)) {
  }
  world->run_for(seconds(1));
  ASSERT_EQ("", violated());
  world->node(red).falsify_lease(red, world->now() + seconds(60));
  world->run_for(2 * Checkers::look_interval);
  EXPECT_EQ("I16", violated());
}

TEST_F(CheckersTest, I17_AGivebackToANodeThatIsOff) {
  world->node(red).power_off();
  const Instant limit = world->now() + seconds(30);
  while (!world->node(blue).served(red).serving && world->step(limit)) {
  }
  world->run_for(Checkers::progress_limit + seconds(1));
  ASSERT_EQ("", violated()) << world->violation()->what;
  ha::Mailbox m = mailbox();
  ASSERT_EQ(blue, m.taken_over_by);
  m.taken_over_by = no_node;
  ++m.generation;
  land(0, registered_nexus(0), disk::mailbox_copy(0).offset, ha::encode(m));
  EXPECT_EQ("I17", violated());
}

TEST_F(CheckersTest, I18_AClientWithoutAnswers) {
  const Instant since = world->now();
  world->run_for(seconds(10));
  checkers->check_liveness(since);
  EXPECT_EQ("", violated());
  const Instant later = world->now();
  world->clients().faults.cut_until = later + seconds(100);
  world->run_for(seconds(20));
  checkers->check_liveness(later + seconds(5));
  EXPECT_EQ("I18", violated());
}

TEST_F(CheckersTest, AnExcuseSilencesItsIdentity) {
  world->excuse(red) = "the test says so";
  world->clients().on_server_send({blue, world->config(red).services[1].address, 48});
  EXPECT_EQ("", violated());
}

}  // namespace
}  // namespace duet::simulator
