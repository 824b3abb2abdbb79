// The partner in a process of its own, to be killed and stopped.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "platform/fabric_test_node.h"

namespace duet::platform {
namespace {

using fabric_test::host_of;
using fabric_test::Node;
using fabric_test::patience;
using fabric_test::self_of;
using fabric_test::text;
using ports::LinkState;

// Runs `body(port_to_us, port_from_us)` as a child: it writes its port to the first descriptor and
// reads ours from the second.
class PartnerProcess {
 public:
  explicit PartnerProcess(void (*body)(int to_parent, int from_parent)) {
    int up[2];
    int down[2];
    EXPECT_EQ(::pipe(up), 0);
    EXPECT_EQ(::pipe(down), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      body(up[1], down[0]);
      ::_exit(0);
    }
    ::close(up[1]);
    ::close(down[0]);
    from_ = up[0];
    to_ = down[1];
  }
  ~PartnerProcess() {
    signal(SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    ::close(from_);
    ::close(to_);
  }
  std::uint16_t port() const {
    std::uint16_t value = 0;
    EXPECT_EQ(::read(from_, &value, sizeof value), static_cast<ssize_t>(sizeof value));
    return value;
  }
  void tell(std::uint16_t port) const {
    EXPECT_EQ(::write(to_, &port, sizeof port), static_cast<ssize_t>(sizeof port));
  }
  void signal(int number) const { ::kill(pid_, number); }
  void stop() const {
    signal(SIGSTOP);
    int status = 0;
    EXPECT_EQ(::waitpid(pid_, &status, WUNTRACED), pid_);
  }

 private:
  pid_t pid_ = -1;
  int from_ = -1;
  int to_ = -1;
};

void supervisor(int to_parent, int from_parent) {
  EventLoop loop;
  Node blue(loop, self_of(2));
  std::uint16_t port = blue.link->port();
  if (::write(to_parent, &port, sizeof port) < 0) return;
  if (::read(from_parent, &port, sizeof port) <= 0) return;
  blue.start({host_of(1), port});
  loop.run();
}

TEST(FabricProcess, KilledPartnerIsReportedAtOnce) {
  PartnerProcess partner(supervisor);
  EventLoop loop;
  Node red(loop, self_of(1));
  red.start({host_of(2), partner.port()});
  partner.tell(red.link->port());
  ASSERT_TRUE(red.becomes(LinkState::ready)) << red.why;
  partner.signal(SIGKILL);
  auto before = loop.now();
  EXPECT_TRUE(red.becomes(LinkState::down));
  // Far below the timeout of an operation: it is the transport that tells.
  EXPECT_LT(loop.now() - before, milliseconds(400));
}

TEST(FabricProcess, StoppedPartnerTimesOutAndComesBack) {
  PartnerProcess partner(supervisor);
  EventLoop loop;
  Node red(loop, self_of(1));
  red.start({host_of(2), partner.port()});
  partner.tell(red.link->port());
  ASSERT_TRUE(red.becomes(LinkState::ready)) << red.why;
  partner.stop();
  std::optional<ErrorCode> read;
  std::optional<ErrorCode> sent;
  red.link->read_partner_state([&](auto r) {
    ASSERT_FALSE(r.has_value());
    read = r.error().code;
  });
  red.link->send(text("please die"), [&](Status s) {
    ASSERT_FALSE(s.has_value());
    sent = s.error().code;
  });
  EXPECT_TRUE(loop.run_until([&] { return read && sent; }, patience));
  EXPECT_EQ(read, ErrorCode::timed_out);
  EXPECT_EQ(sent, ErrorCode::timed_out);
  EXPECT_TRUE(red.becomes(LinkState::down)) << red.why;
  // It goes on trying while the partner is stopped; no wait is longer than its bound.
  EXPECT_TRUE(loop.run_until([&] { return red.link->state() == LinkState::down; }, seconds(1)));
  partner.signal(SIGCONT);
  EXPECT_TRUE(red.becomes(LinkState::ready)) << red.why;
}

constexpr std::size_t region_size = 1 << 20;

void engine(int to_parent, int) {
  EventLoop loop;
  auto region = make_buffer(region_size);
  FabricMirrorOptions options;
  options.self = self_of(2);
  options.listen.host = host_of(2);
  options.region = region.bytes;
  auto mirror = std::move(FabricMirror::open(loop, options).value());
  mirror->open_window(0, region_size, self_of(1).nonce);
  std::uint16_t port = mirror->port();
  if (::write(to_parent, &port, sizeof port) < 0) return;
  loop.run();
}

struct MirrorToProcess {
  PartnerProcess partner{engine};
  EventLoop loop;
  OwnedBuffer region = make_buffer(region_size);
  std::unique_ptr<FabricMirror> mirror;

  MirrorToProcess() {
    FabricMirrorOptions options;
    options.self = self_of(1);
    options.listen.host = host_of(1);
    options.region = region.bytes;
    mirror = std::move(FabricMirror::open(loop, options).value());
    mirror->dial(host_of(2), partner.port(), self_of(2).nonce);
    EXPECT_TRUE(loop.run_until([&] { return mirror->outgoing_up(); }, patience));
  }
};

TEST(FabricProcess, MirrorWritesFailWhenThePartnerIsKilled) {
  MirrorToProcess m;
  std::size_t ok = 0;
  std::size_t failed = 0;
  for (int i = 0; i < 500; ++i) {
    m.mirror->write(0, 4096, [&](Status s) { s ? ++ok : ++failed; });
  }
  EXPECT_TRUE(m.loop.run_until([&] { return ok > 0; }, patience));
  m.partner.signal(SIGKILL);
  EXPECT_TRUE(m.loop.run_until([&] { return ok + failed == 500; }, patience));
  EXPECT_TRUE(m.loop.run_until([&] { return !m.mirror->outgoing_up(); }, patience));
}

TEST(FabricProcess, MirrorWritesTimeOutWhenThePartnerIsStopped) {
  MirrorToProcess m;
  m.partner.stop();
  std::vector<std::optional<Status>> outcomes(3);
  for (auto& outcome : outcomes) {
    m.mirror->write(0, region_size, [&](Status s) { outcome = std::move(s); });
  }
  ASSERT_TRUE(m.loop.run_until([&] { return outcomes.back().has_value(); }, patience));
  for (auto& outcome : outcomes) {
    ASSERT_FALSE(outcome->has_value());
    EXPECT_EQ(outcome->error().code, ErrorCode::timed_out);
  }
  EXPECT_TRUE(m.loop.run_until([&] { return !m.mirror->outgoing_up(); }, patience));
  m.partner.signal(SIGCONT);
  EXPECT_TRUE(m.loop.run_until([&] { return m.mirror->outgoing_up(); }, patience))
      << m.mirror->why();
}

}  // namespace
}  // namespace duet::platform
