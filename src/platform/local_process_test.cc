// The pieces between supervisor and engine: channel, child process, shared memory.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>

#include "platform/child_process.h"
#include "platform/shared_memory.h"
#include "platform/unix_channel.h"

namespace duet::platform {
namespace {

std::vector<std::byte> message(std::size_t size, int fill) {
  return std::vector<std::byte>(size, static_cast<std::byte>(fill));
}

struct Ends {
  explicit Ends(EventLoop& loop) {
    int fds[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    a = std::make_unique<UnixChannel>(loop, fds[0]);
    b = std::make_unique<UnixChannel>(loop, fds[1]);
  }
  std::unique_ptr<UnixChannel> a, b;
};

TEST(UnixChannel, DeliversWholeMessagesInOrderEmptyAndLargeOnes) {
  EventLoop loop;
  Ends ends(loop);
  std::vector<std::size_t> sizes;
  ends.b->on_message([&](Bytes m) { sizes.push_back(m.size()); });
  ends.a->send(message(3, 1));
  ends.a->send({});
  ends.a->send(message(UnixChannel::max_message, 2));
  ends.a->send(message(1, 3));
  ASSERT_TRUE(loop.run_until([&] { return sizes.size() == 4; }, seconds(10)));
  EXPECT_EQ(sizes, (std::vector<std::size_t>{3, 0, UnixChannel::max_message, 1}));
  EXPECT_TRUE(ends.a->all_sent());
}

TEST(UnixChannel, TellsOnceThatThePeerIsGone) {
  EventLoop loop;
  Ends ends(loop);
  int closed = 0;
  ends.a->on_closed([&] { ++closed; });
  ends.b.reset();
  ASSERT_TRUE(loop.run_until([&] { return closed > 0; }, seconds(10)));
  EXPECT_EQ(closed, 1);
  EXPECT_FALSE(ends.a->open());
  ends.a->send(message(1, 1));  // no effect
}

TEST(UnixChannel, APeerThatDoesNotReadLosesTheChannel) {
  EventLoop loop;
  int fds[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
  UnixChannel a(loop, fds[0]);
  bool closed = false;
  a.on_closed([&] { closed = true; });
  for (std::size_t sent = 0; sent <= UnixChannel::max_pending + UnixChannel::max_message;
       sent += UnixChannel::max_message) {
    a.send(message(UnixChannel::max_message, 0));
  }
  EXPECT_TRUE(loop.run_until([&] { return closed; }, seconds(10)));
  ::close(fds[1]);
}

TEST(UnixChannel, AnImpossibleLengthClosesTheChannel) {
  EventLoop loop;
  int fds[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
  UnixChannel a(loop, fds[0]);
  bool closed = false;
  a.on_closed([&] { closed = true; });
  const unsigned char lie[4] = {0xff, 0xff, 0xff, 0xff};
  ASSERT_EQ(::write(fds[1], lie, sizeof lie), 4);
  EXPECT_TRUE(loop.run_until([&] { return closed; }, seconds(10)));
  ::close(fds[1]);
}

TEST(UnixServer, AcceptsAndRefusesToReplaceALiveOne) {
  EventLoop loop;
  auto path = (std::filesystem::temp_directory_path() / ("duet-test-" + std::to_string(::getpid())))
                  .string();
  std::unique_ptr<UnixChannel> accepted;
  auto server = UnixServer::listen(loop, path, [&](auto c) { accepted = std::move(c); });
  ASSERT_TRUE(server) << server.error().message;
  auto second = UnixServer::listen(loop, path, [](auto) {});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::busy);
  auto client = connect_unix(loop, path);
  ASSERT_TRUE(client);
  ASSERT_TRUE(loop.run_until([&] { return accepted != nullptr; }, seconds(10)));
  server->reset();
  EXPECT_FALSE(connect_unix(loop, path));
}

TEST(ChildProcess, TellsHowItEnded) {
  EventLoop loop;
  std::vector<std::string> ends;
  auto note = [&](std::string how) { ends.push_back(std::move(how)); };
  auto exits = ChildProcess::start(loop, {"sh", "-c", "exit 3"}, {}, note);
  ASSERT_TRUE(exits) << exits.error().message;
  ASSERT_TRUE(loop.run_until([&] { return ends.size() == 1; }, seconds(10)));
  auto killed = ChildProcess::start(loop, {"tail", "-f", "/dev/null"}, {}, note);
  ASSERT_TRUE(killed);
  (*killed)->kill();
  ASSERT_TRUE(loop.run_until([&] { return ends.size() == 2; }, seconds(10)));
  EXPECT_EQ(ends, (std::vector<std::string>{"exit 3", "signal 9 (Killed)"}));
}

TEST(ChildProcess, SaysWhatCannotBeStarted) {
  EventLoop loop;
  auto none = ChildProcess::start(loop, {"/nonexistent/engine"}, {}, [](auto) {});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().message, "cannot start /nonexistent/engine: No such file or directory");
}

TEST(SharedMemory, IsSeenThroughBothMappings) {
  auto ours = SharedMemory::create();
  ASSERT_TRUE(ours);
  auto theirs = SharedMemory::map(::dup(ours->descriptor()));
  ASSERT_TRUE(theirs);
  NodeId identity(1);
  Instant now{seconds(5)};
  EXPECT_FALSE(theirs->state().lease_valid(identity, now));
  ours->state().lease_until[1] = Duration(seconds(6)).count();
  EXPECT_TRUE(theirs->state().lease_valid(identity, now));
  EXPECT_FALSE(theirs->state().lease_valid(identity, Instant{seconds(6)}));
  EXPECT_FALSE(theirs->state().lease_valid(NodeId(2), now));
}

}  // namespace
}  // namespace duet::platform
