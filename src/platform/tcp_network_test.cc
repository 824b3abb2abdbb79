#include "platform/tcp_network.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>
#include <thread>

namespace duet::platform {
namespace {

constexpr Duration limit = seconds(10);

class Handler : public ports::StreamHandler {
 public:
  explicit Handler(std::shared_ptr<ports::Stream> stream) : stream_(std::move(stream)) {}
  MutableBytes receive_buffer() override { return MutableBytes(buffer_).first(room); }
  void on_received(std::size_t size) override {
    received.append(reinterpret_cast<char*>(buffer_.data()), size);
    if (on_data) on_data();
  }
  void on_sent(std::size_t pending) override { last_pending = pending; }
  void on_closed() override { ++closed; }
  ports::Stream& stream() { return *stream_; }

  std::string received;
  std::size_t room = 1024;
  std::size_t last_pending = 999;
  int closed = 0;
  std::function<void()> on_data;

 private:
  std::shared_ptr<ports::Stream> stream_;
  std::array<std::byte, 65536> buffer_{};
};

Slice slice(std::string_view text) {
  return copy_to_slice(std::as_bytes(std::span(text)));
}

sockaddr_in loopback(const char* address, std::uint16_t port) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  ::inet_pton(AF_INET, address, &to.sin_addr);
  return to;
}

// A plain blocking client.
class Client {
 public:
  explicit Client(std::uint16_t port, const char* address = "127.0.0.1") {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    auto to = loopback(address, port);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0;
    timeval timeout{.tv_sec = 10, .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  }
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  bool connected() const { return connected_; }
  void send(std::string_view text) {
    EXPECT_EQ(::send(fd_, text.data(), text.size(), MSG_NOSIGNAL), std::ssize(text));
  }
  // What can be received now; "EOF" after the end, "RESET" after a reset.
  std::string receive_now() {
    std::string text(1 << 20, 0);
    auto n = ::recv(fd_, text.data(), text.size(), MSG_DONTWAIT);
    if (n == 0) return "EOF";
    if (n < 0) return errno == ECONNRESET ? "RESET" : "";
    text.resize(static_cast<std::size_t>(n));
    return text;
  }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  int fd() const { return fd_; }

 private:
  int fd_ = -1;
  bool connected_ = false;
};

class TcpNetworkTest : public testing::Test {
 protected:
  void listen(const char* address = "127.0.0.1") {
    auto result = network_.listen(address, 0, false, [this](std::shared_ptr<ports::Stream> s) {
      handler_ = std::make_shared<Handler>(std::move(s));
      return handler_;
    });
    ASSERT_TRUE(result.has_value()) << result.error().message;
    listener_ = std::move(*result);
  }
  bool run_until(const std::function<bool()>& condition) {
    return loop_.run_until(condition, limit);
  }
  EventLoop loop_;
  TcpNetwork network_{loop_};
  std::unique_ptr<ports::Listener> listener_;
  std::shared_ptr<Handler> handler_;
};

TEST_F(TcpNetworkTest, CarriesBytesBothWaysAndNoticesTheEnd) {
  listen();
  Client client(listener_->port());
  client.send("hello");
  ASSERT_TRUE(run_until([&] { return handler_ && handler_->received == "hello"; }));
  EXPECT_EQ(handler_->stream().peer().substr(0, 10), "127.0.0.1:");
  handler_->stream().send({slice("wor"), slice(""), slice("ld")});
  handler_->stream().send({slice("!")});
  EXPECT_EQ(handler_->stream().pending(), 6u);
  ASSERT_TRUE(run_until([&] { return handler_->last_pending == 0; }));
  EXPECT_EQ(client.receive_now(), "world!");
  EXPECT_EQ(network_.open_streams(), 1u);
  client.close();
  ASSERT_TRUE(run_until([&] { return handler_->closed == 1; }));
  EXPECT_EQ(network_.open_streams(), 0u);
  handler_->stream().send({slice("too late")});
  handler_->stream().close(false);
  EXPECT_EQ(handler_->closed, 1);
}

TEST_F(TcpNetworkTest, ReadsNothingWhileTheHandlerHasNoRoom) {
  listen();
  Client client(listener_->port());
  ASSERT_TRUE(run_until([&] { return handler_ != nullptr; }));
  handler_->room = 0;
  client.send("hello");
  bool later = false;
  loop_.at(loop_.now() + milliseconds(10), [&] { later = true; });
  ASSERT_TRUE(run_until([&] { return later; }));
  EXPECT_EQ(handler_->received, "");
  handler_->room = 2;  // and short reads do not lose the rest
  handler_->stream().resume_reading();
  ASSERT_TRUE(run_until([&] { return handler_->received == "hello"; }));
}

TEST_F(TcpNetworkTest, SendsMoreThanTheKernelTakesAndMoreSlicesThanOneCallTakes) {
  listen();
  Client client(listener_->port());
  ASSERT_TRUE(run_until([&] { return handler_ != nullptr; }));
  std::string expected;
  std::vector<Slice> slices;
  for (int i = 0; i < 3000; ++i) {
    std::string piece(static_cast<std::size_t>(1 + i * 37 % 9000), static_cast<char>('a' + i % 26));
    expected += piece;
    slices.push_back(slice(piece));
  }
  ASSERT_GT(expected.size(), TcpNetwork::stop_reading_above);
  handler_->stream().send(std::move(slices));
  client.send("read when the backlog is gone");
  EXPECT_EQ(handler_->received, "");
  std::string got;
  bool complete = false;
  std::thread reader([&] {
    std::string text(1 << 20, 0);
    while (got.size() < expected.size()) {
      auto n = ::recv(client.fd(), text.data(), text.size(), 0);
      if (n <= 0) break;
      got.append(text, 0, static_cast<std::size_t>(n));
    }
    loop_.post_from_any_thread([&] { complete = true; });
  });
  EXPECT_TRUE(run_until([&] { return complete; }));
  reader.join();
  EXPECT_TRUE(got == expected);
  EXPECT_TRUE(run_until([&] { return !handler_->received.empty(); }));
}

TEST_F(TcpNetworkTest, BreaksOffAConnectionWithTooMuchPending) {
  listen();
  Client client(listener_->port());
  ASSERT_TRUE(run_until([&] { return handler_ != nullptr; }));
  auto big = make_buffer(1 << 20);
  for (std::size_t i = 0; i <= TcpNetwork::max_pending_bytes >> 20; ++i) {
    handler_->stream().send({big.slice()});
  }
  EXPECT_EQ(handler_->closed, 0);  // never from inside the call
  ASSERT_TRUE(run_until([&] { return handler_->closed == 1; }));
}

TEST_F(TcpNetworkTest, CloseWithFlushDeliversEverythingThenEnds) {
  listen();
  Client client(listener_->port());
  client.send("ignored");
  ASSERT_TRUE(run_until([&] { return handler_ && !handler_->received.empty(); }));
  client.send("never read by the handler");
  handler_->stream().send({slice("last words")});
  handler_->stream().close(true);
  handler_->stream().send({slice("not sent")});
  std::string got;
  bool turned = false;
  ASSERT_TRUE(run_until([&] {
    loop_.post([&] { turned = true; });
    if (auto text = client.receive_now(); text == "EOF") {
      client.close();
    } else {
      got += text;
    }
    return handler_->closed == 1;
  }));
  EXPECT_EQ(got, "last words");
}

TEST_F(TcpNetworkTest, CloseWithFlushEndsEvenIfThePeerDoesNothing) {
  listen();
  Client client(listener_->port());
  ASSERT_TRUE(run_until([&] { return handler_ != nullptr; }));
  handler_->stream().send({make_buffer(20 << 20).slice()});
  handler_->stream().close(true);
  ASSERT_TRUE(run_until([&] { return handler_->closed == 1; }));
}

TEST_F(TcpNetworkTest, CloseWithoutFlushResets) {
  listen();
  Client client(listener_->port());
  ASSERT_TRUE(run_until([&] { return handler_ != nullptr; }));
  handler_->stream().send({slice("never leaves")});
  handler_->stream().close(false);
  ASSERT_TRUE(run_until([&] { return handler_->closed == 1; }));
  EXPECT_EQ(client.receive_now(), "RESET");
}

TEST_F(TcpNetworkTest, MayBeClosedFromWithinOnReceived) {
  listen();
  Client client(listener_->port());
  ASSERT_TRUE(run_until([&] { return handler_ != nullptr; }));
  handler_->on_data = [&] { handler_->stream().close(false); };
  client.send("bye");
  ASSERT_TRUE(run_until([&] { return handler_->closed == 1; }));
}

TEST_F(TcpNetworkTest, StopsListeningButKeepsStreams) {
  listen();
  auto port = listener_->port();
  Client client(port);
  ASSERT_TRUE(run_until([&] { return handler_ != nullptr; }));
  listener_.reset();
  EXPECT_FALSE(Client(port).connected());
  client.send("still here");
  ASSERT_TRUE(run_until([&] { return handler_->received == "still here"; }));
}

TEST_F(TcpNetworkTest, SaysWhyItCannotListen) {
  auto refuse = [](std::shared_ptr<ports::Stream>) { return nullptr; };
  auto result = network_.listen("localhost", 0, false, refuse);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::invalid);
  result = network_.listen("192.0.2.1", 0, false, refuse);  // TEST-NET-1: never ours
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::io_error);
  result = network_.listen("192.0.2.1", 0, true, refuse);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::io_error);
}

TEST_F(TcpNetworkTest, ListensOnIpv6) {
  auto interface = interface_of("::1");
  if (!interface) GTEST_SKIP() << "no IPv6 here";
  EXPECT_EQ(*interface, "lo");
  auto result =
      network_.listen("::1", 0, true, [](std::shared_ptr<ports::Stream>) { return nullptr; });
  EXPECT_TRUE(result.has_value());
}

// A stopped owner's listener still takes connections in the kernel; nobody answers them. The
// survivor's listener for the same address must get every new one.
TEST_F(TcpNetworkTest, AFloatingAddressNeedNotBeHereYet) {
  auto listen = [&](const char* address, bool foreign) {
    return network_.listen(address, 0, foreign, [](auto) { return nullptr; });
  };
  for (auto address : {"192.0.2.11", "2001:db8::11"}) {
    EXPECT_FALSE(listen(address, false)) << "nobody said that it floats";
    EXPECT_FALSE(listen(address, true));
    network_.let_float(address);
    auto own = listen(address, false);
    EXPECT_TRUE(own) << own.error().message;
    auto foreign = listen(address, true);
    EXPECT_TRUE(foreign) << foreign.error().message;
  }
}

TEST_F(TcpNetworkTest, AForeignListenerOutranksAStoppedOwner) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  pid_t owner = ::fork();
  if (owner == 0) {
    int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    auto at = loopback("127.0.0.77", 0);
    socklen_t size = sizeof at;
    bool ok = ::bind(fd, reinterpret_cast<sockaddr*>(&at), size) == 0 && ::listen(fd, 128) == 0 &&
              ::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size) == 0;
    std::uint16_t port = ok ? ntohs(at.sin_port) : 0;
    if (::write(ready[1], &port, sizeof port) != sizeof port) ::_exit(1);
    ::raise(SIGSTOP);
    ::_exit(0);
  }
  std::uint16_t port = 0;
  ASSERT_EQ(::read(ready[0], &port, sizeof port), static_cast<ssize_t>(sizeof port));
  int status = 0;
  ASSERT_EQ(::waitpid(owner, &status, WUNTRACED), owner);
  ASSERT_TRUE(WIFSTOPPED(status));

  int accepted = 0;
  auto listener = network_.listen("127.0.0.77", port, true, [&](std::shared_ptr<ports::Stream> s) {
    ++accepted;
    return std::make_shared<Handler>(std::move(s));
  });
  EXPECT_TRUE(listener.has_value()) << listener.error().message;
  constexpr int attempts = 50;
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; listener && i < attempts; ++i) {
    clients.push_back(std::make_unique<Client>(port, "127.0.0.77"));
    EXPECT_TRUE(clients.back()->connected());
  }
  EXPECT_TRUE(run_until([&] { return accepted == attempts; })) << accepted;
  ::kill(owner, SIGKILL);
  ::waitpid(owner, &status, 0);
  ::close(ready[0]);
  ::close(ready[1]);
}

}  // namespace
}  // namespace duet::platform
