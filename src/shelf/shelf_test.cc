#include "shelf/shelf.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "scsi/slices.h"
#include "shelf/control.h"
#include "shelf/shelf_fixture.h"

namespace duet::shelf {
namespace {

using scsi::StatusCode;

const scsi::Nexus red{"iqn.2026-11.test:red", {0x80, 0, 0, 0, 0, 1}, 1};
const scsi::Nexus blue{"iqn.2026-11.test:blue", {0x80, 0, 0, 0, 0, 2}, 2};

// A network with nothing behind it.
class NoNetwork final : public ports::Network {
 public:
  Result<std::unique_ptr<ports::Listener>> listen(const std::string&, std::uint16_t, bool,
                                                  Accept) override {
    return fail(ErrorCode::io_error, "no network");
  }
};

class ShelfTest : public testing::Test {
 protected:
  ShelfTest() { open(); }

  void open(bool write_cache = false) {
    control.reset();
    shelf.reset();
    ShelfConfig config;
    config.directory = f.directory.path / "disks";
    config.disks = 2;
    config.sizes = {1u << 20};
    config.target_name = "iqn.2026-11.test:shelf";
    config.target_ports = 2;
    config.write_cache = write_cache;
    auto opened = Shelf::open(config, f.clock, f.workers);
    ASSERT_TRUE(opened) << opened.error().message;
    shelf = std::move(*opened);
    shelf->on_answer([this](scsi::Action&& action) { answers.push_back(std::move(action)); });
    control.emplace(*shelf, network);
    for (const auto& nexus : {red, blue}) {
      shelf->on_nexus_new(nexus);
      run(nexus, {0x00});
      run(nexus, {0x00}, {}, 1);
    }
  }

  scsi::CommandTag send(const scsi::Nexus& nexus, std::vector<std::uint8_t> cdb,
                        std::vector<std::byte> data = {}, std::uint16_t lun = 0) {
    scsi::Command command;
    command.tag = last_ = last_.next();
    command.nexus = nexus;
    std::ranges::copy(cdb, command.cdb.begin());
    if (!data.empty()) command.data_out.push_back(copy_to_slice(data));
    shelf->on_command(LunNumber(lun), std::move(command));
    return last_;
  }
  std::optional<scsi::Response> answer(scsi::CommandTag tag) {
    for (auto& action : answers)
      if (auto* respond = std::get_if<scsi::Respond>(&action); respond && respond->tag == tag)
        return respond->response;
    return std::nullopt;
  }
  bool aborted(scsi::CommandTag tag) {
    return std::ranges::any_of(answers, [&](const auto& action) {
      const auto* gone = std::get_if<scsi::CommandAborted>(&action);
      return gone && gone->tag == tag;
    });
  }
  scsi::Response run(const scsi::Nexus& nexus, std::vector<std::uint8_t> cdb,
                     std::vector<std::byte> data = {}, std::uint16_t lun = 0) {
    const auto tag = send(nexus, std::move(cdb), std::move(data), lun);
    for (;;) {
      if (auto response = answer(tag)) return *response;
      f.posted.run_one();
    }
  }
  StatusCode write(int value, std::uint8_t flags = 0) {
    return run(red, {0x2a, flags, 0, 0, 0, 0, 0, 0, 1},
               std::vector<std::byte>(512, std::byte(value)))
        .status;
  }
  int read() {
    const auto response = run(red, {0x28, 0, 0, 0, 0, 0, 0, 0, 1});
    return response.data_in.empty() ? -1 : std::to_integer<int>(response.data_in[0].bytes[0]);
  }
  static std::uint32_t sense(const scsi::Response& r) {
    if (r.sense.empty()) return 0;
    return (std::to_integer<std::uint32_t>(r.sense[2]) & 15) << 16 |
           std::to_integer<std::uint32_t>(r.sense[12]) << 8 |
           std::to_integer<std::uint32_t>(r.sense[13]);
  }
  StatusCode reserve_out(const scsi::Nexus& nexus, std::uint8_t action, std::uint8_t type,
                         std::uint64_t key, std::uint64_t action_key, std::uint8_t flags = 0) {
    std::vector<std::byte> list(24);
    store_be(&list[0], key);
    store_be(&list[8], action_key);
    list[20] = std::byte{flags};
    return run(nexus, {0x5f, action, type, 0, 0, 0, 0, 0, 24}, list).status;
  }
  std::size_t registrations() {
    return run(red, {0x5e, 0, 0, 0, 0, 0, 0, 1, 0}).data_in[0].bytes.size() / 8 - 1;
  }

  ShelfFixture f;
  NoNetwork nothing;
  CutNetwork network{nothing};
  std::vector<scsi::Action> answers;
  std::unique_ptr<Shelf> shelf;
  std::optional<Control> control;
  scsi::CommandTag last_;
};

TEST_F(ShelfTest, DisksKeepTheirDataAndIdentity) {
  EXPECT_EQ(write(7), StatusCode::good);
  const auto serial = scsi::flatten(run(red, {0x12, 1, 0x80, 0, 64}).data_in);
  EXPECT_NE(serial, scsi::flatten(run(red, {0x12, 1, 0x80, 0, 64}, {}, 1).data_in));
  open();
  EXPECT_EQ(read(), 7);
  EXPECT_EQ(serial, scsi::flatten(run(red, {0x12, 1, 0x80, 0, 64}).data_in));
}

TEST_F(ShelfTest, ReportsItsLunsAndNoOthers) {
  EXPECT_EQ(scsi::flatten(run(red, {0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0}).data_in).size(), 24u);
  EXPECT_EQ(sense(run(red, {0x00}, {}, 9)), 0x052500u);
}

TEST_F(ShelfTest, PowerBlipKeepsOnlyWhatPersists) {
  EXPECT_EQ(reserve_out(red, 0, 0, 0, 1, 1), StatusCode::good);  // APTPL
  EXPECT_EQ(control->execute("power-blip 0"), "ok");
  EXPECT_EQ(sense(run(red, {0x00})), 0x062900u);
  EXPECT_EQ(sense(run(blue, {0x00})), 0x062900u);
  EXPECT_EQ(registrations(), 1u);
  EXPECT_EQ(reserve_out(red, 6, 0, 0, 2, 0), StatusCode::good);  // no APTPL any more
  EXPECT_EQ(control->execute("power-blip all"), "ok");
  run(red, {0x00});
  EXPECT_EQ(registrations(), 0u);
}

TEST_F(ShelfTest, ReservationsSurviveTheProcess) {
  EXPECT_EQ(reserve_out(red, 0, 0, 0, 1, 1), StatusCode::good);
  EXPECT_EQ(reserve_out(red, 1, 5, 1, 0), StatusCode::good);
  open();
  EXPECT_EQ(registrations(), 1u);
  EXPECT_EQ(run(blue, {0x2a, 0, 0, 0, 0, 0, 0, 0, 1}, std::vector<std::byte>(512)).status,
            StatusCode::reservation_conflict);
}

TEST_F(ShelfTest, DisksMayDifferInSize) {
  ShelfConfig config{.directory = f.directory.path / "others",
                     .disks = 3,
                     .sizes = {1u << 20, 2u << 20},
                     .target_name = "x"};
  ASSERT_TRUE(Shelf::open(config, f.clock, f.workers));
  for (unsigned i = 0; i < 3; ++i) {
    auto file = config.directory / ("disk-00" + std::to_string(i) + ".img");
    EXPECT_EQ(std::filesystem::file_size(file), i == 0 ? 1u << 20 : 2u << 20);
  }
  config.sizes = {1u << 20, 2u << 20, 1u << 20, 1u << 20};
  EXPECT_FALSE(Shelf::open(config, f.clock, f.workers)) << "one more than disks";
  config.sizes = {1u << 20, 4095};
  EXPECT_FALSE(Shelf::open(config, f.clock, f.workers));
}

TEST_F(ShelfTest, DamagedReservationsStopTheShelf) {
  reserve_out(red, 0, 0, 0, 1, 1);
  std::ofstream(f.directory.path / "disks" / "disk-000.reservations") << "rubbish";
  ShelfConfig config{
      .directory = f.directory.path / "disks", .disks = 2, .sizes = {1u << 20}, .target_name = "x"};
  EXPECT_FALSE(Shelf::open(config, f.clock, f.workers));
}

TEST_F(ShelfTest, WithoutPowerNothingIsReady) {
  EXPECT_EQ(control->execute("slow 0 1000"), "ok");
  const auto held =
      send(red, {0x2a, 0, 0, 0, 0, 0, 0, 0, 1}, std::vector<std::byte>(512, std::byte{9}));
  EXPECT_EQ(control->execute("power-off 0"), "ok");
  EXPECT_TRUE(aborted(held));
  EXPECT_EQ(sense(run(red, {0x00})), 0x020400u);
  EXPECT_EQ(control->execute("status"), "ok power=on disk0=off disk1=on");
  EXPECT_EQ(control->execute("power-on 0"), "ok");
  f.clock.run_for(seconds(2));
  run(red, {0x00});
  EXPECT_EQ(read(), 0);
}

TEST_F(ShelfTest, VolatileCacheIsLostWithPower) {
  open(true);
  EXPECT_EQ(write(1, 0x08), StatusCode::good);  // FUA
  EXPECT_EQ(write(2), StatusCode::good);
  EXPECT_EQ(read(), 2);
  control->execute("power-blip 0");
  run(red, {0x00});
  EXPECT_EQ(read(), 1);
  EXPECT_EQ(write(3), StatusCode::good);
  EXPECT_EQ(run(red, {0x35}).status, StatusCode::good);  // SYNCHRONIZE CACHE
  control->execute("power-blip 0");
  run(red, {0x00});
  EXPECT_EQ(read(), 3);
}

TEST_F(ShelfTest, HangingKeepsTheOrder) {
  EXPECT_EQ(control->execute("hang 0"), "ok");
  const auto first =
      send(red, {0x2a, 0, 0, 0, 0, 0, 0, 0, 1}, std::vector<std::byte>(512, std::byte{4}));
  const auto second = send(red, {0x28, 0, 0, 0, 0, 0, 0, 0, 1});
  const auto other = send(blue, {0x00});
  EXPECT_FALSE(answer(first));
  EXPECT_EQ(run(red, {0x00}, {}, 1).status, StatusCode::good);  // the other disk works
  shelf->on_nexus_lost(blue);
  EXPECT_TRUE(aborted(other));  // its session must not wait for the disk
  EXPECT_EQ(control->execute("heal 0"), "ok");
  EXPECT_TRUE(answer(first));
  EXPECT_EQ(std::to_integer<int>(answer(second)->data_in.at(0).bytes[0]), 4);
}

TEST_F(ShelfTest, PowerGoesWhileHanging) {
  control->execute("hang 0");
  const auto held =
      send(red, {0x2a, 0, 0, 0, 0, 0, 0, 0, 1}, std::vector<std::byte>(512, std::byte{4}));
  shelf->on_task_management(5, scsi::TaskManagement::logical_unit_reset, red, LunNumber(0), {});
  control->execute("power-blip 0");
  EXPECT_TRUE(aborted(held));
  EXPECT_TRUE(std::ranges::any_of(answers, [](const auto& a) {
    const auto* done = std::get_if<scsi::TaskManagementDone>(&a);
    return done && done->request == 5;
  }));
  run(red, {0x00});
  EXPECT_EQ(read(), 0);
}

TEST_F(ShelfTest, FailingAndHealing) {
  control->execute("fail all");
  EXPECT_EQ(write(1), StatusCode::check_condition);
  EXPECT_EQ(control->execute("status"), "ok power=on disk0=failing disk1=failing");
  control->execute("heal all");
  EXPECT_EQ(write(1), StatusCode::good);
}

TEST_F(ShelfTest, ControlRefusesNonsense) {
  for (const char* line : {"", "nonsense", "slow 0", "slow 0 x", "slow 0 700000", "hang 7",
                           "hang -1", "cut-path", "status a b c d", "power-off 0x"})
    EXPECT_TRUE(control->execute(line).starts_with("error: ")) << line;
}

// ---- paths ----

struct FakeStream final : ports::Stream {
  const std::string& peer() const override { return name; }
  void send(std::vector<Slice> data) override { sent += data.size(); }
  std::size_t pending() const override { return 0; }
  void resume_reading() override {}
  void close(bool) override { closed = true; }
  std::string name = "peer";
  std::size_t sent = 0;
  bool closed = false;
};
struct FakeHandler final : ports::StreamHandler {
  MutableBytes receive_buffer() override { return std::as_writable_bytes(std::span(buffer)); }
  void on_received(std::size_t size) override { received += size; }
  void on_sent(std::size_t) override {}
  void on_closed() override {}
  std::array<char, 4096> buffer{};
  std::size_t received = 0;
  std::shared_ptr<ports::Stream> stream;
};
struct FakeNetwork final : ports::Network {
  struct L final : ports::Listener {
    std::uint16_t port() const override { return 4242; }
  };
  Result<std::unique_ptr<ports::Listener>> listen(const std::string&, std::uint16_t, bool,
                                                  Accept a) override {
    accept = std::move(a);
    return std::make_unique<L>();
  }
  Accept accept;
};

class ShelfPathTest : public testing::Test {
 protected:
  ShelfPathTest() {
    listener = *cut.listen("127.0.0.1", 0, false, [this](std::shared_ptr<ports::Stream> stream) {
      above = std::make_shared<FakeHandler>();
      upper = std::move(stream);
      return above;
    });
  }
  void connect() {
    below = std::make_shared<FakeStream>();
    lower = network.accept(below);
  }
  void receive(std::string_view text) {
    const auto buffer = lower->receive_buffer();
    std::memcpy(buffer.data(), text.data(), text.size());
    lower->on_received(text.size());
  }

  FakeNetwork network;
  CutNetwork cut{network};
  std::unique_ptr<ports::Listener> listener;
  std::shared_ptr<FakeHandler> above;
  std::shared_ptr<ports::Stream> upper;
  std::shared_ptr<FakeStream> below;
  std::shared_ptr<ports::StreamHandler> lower;
};

TEST_F(ShelfPathTest, CutPortalIsSilentUntilRestored) {
  connect();
  receive("hello");
  cut.cut("127.0.0.1:4242");
  receive("lost");
  upper->send({Slice{}});
  EXPECT_EQ(above->received, 5u);
  EXPECT_EQ(below->sent, 0u);
  EXPECT_FALSE(below->closed);
  cut.restore("127.0.0.1:4242");
  EXPECT_TRUE(below->closed);  // bytes are missing: nobody can go on
  connect();
  receive("again");
  EXPECT_EQ(above->received, 5u);
}

TEST_F(ShelfPathTest, CutInitiatorIsKnownByItsLogin) {
  cut.cut("iqn.x:red");
  connect();
  receive(std::string_view("InitiatorName=iqn.x:blue\0Target=x\0", 35));
  EXPECT_EQ(above->received, 35u);
  connect();
  receive(std::string_view("Auth=None\0InitiatorName=iqn.x", 29));
  EXPECT_EQ(above->received, 29u);
  receive(std::string_view(":red\0", 5));
  EXPECT_EQ(above->received, 29u);
  cut.restore_all();
  EXPECT_TRUE(below->closed);
}

TEST_F(ShelfPathTest, ClosedConnectionsAreForgotten) {
  connect();
  std::weak_ptr<FakeHandler> gone = above;
  above->stream = std::move(upper);  // as a server does
  above.reset();
  lower->on_closed();
  lower.reset();
  EXPECT_TRUE(gone.expired());
}

TEST_F(ShelfPathTest, WithoutPowerConnectionsBreak) {
  connect();
  cut.power(false);
  EXPECT_TRUE(below->closed);
  connect();
  EXPECT_TRUE(below->closed);
  cut.power(true);
  connect();
  EXPECT_FALSE(below->closed);
}

}  // namespace
}  // namespace duet::shelf
