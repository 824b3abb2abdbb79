#include "platform/tls_relay.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "platform/tcp_address.h"

namespace duet::platform {
namespace {

std::vector<std::byte> bytes(const std::string& text) {
  auto view = std::as_bytes(std::span(text));
  return {view.begin(), view.end()};
}

class TlsRelayTest : public ::testing::Test {
 protected:
  TlsRelayTest() {
    std::signal(SIGPIPE, SIG_IGN);
    directory_ =
        std::filesystem::temp_directory_path() / ("duet-relay-" + std::to_string(::getpid()));
    std::filesystem::create_directories(directory_);
    context_ = context("the secret", TlsContext::Side::server);
    relay_ = TlsRelay::open(loop_, *context_, "127.0.0.1", 0, socket()).value();
    relay_->on_note = [this](const std::string& text) { notes_ += text + "\n"; };
  }
  ~TlsRelayTest() override {
    daemon_.reset();
    relay_.reset();
    std::filesystem::remove_all(directory_);
  }
  std::string socket() const { return (directory_ / "duetd.sock").string(); }
  static std::unique_ptr<TlsContext> context(const std::string& secret, TlsContext::Side side) {
    return TlsContext::create(bytes(secret), side).value();
  }
  // A daemon that answers every message with itself, twice.
  void start_daemon() {
    daemon_ = UnixServer::listen(loop_, socket(), [this](std::unique_ptr<UnixChannel> channel) {
                auto* c = channel.get();
                c->on_message([this, c](Bytes message) {
                  seen_ += message.size();
                  std::vector<std::byte> copy(message.begin(), message.end());
                  c->send(copy);
                  c->send(copy);
                });
                sessions_.push_back(std::move(channel));
              }).value();
  }
  struct Client {
    std::unique_ptr<TlsContext> context;
    std::unique_ptr<TlsChannel> channel;
    std::vector<std::vector<std::byte>> received;
    bool closed = false;
  };
  std::unique_ptr<Client> connect(const std::string& secret = "the secret") {
    auto client = std::make_unique<Client>();
    client->context = context(secret, TlsContext::Side::client);
    client->channel =
        connect_tls(loop_, *client->context, "127.0.0.1", relay_->port(), 4u << 20).value();
    auto* c = client.get();
    c->channel->on_message([c](Bytes m) { c->received.emplace_back(m.begin(), m.end()); });
    c->channel->on_closed([c] { c->closed = true; });
    return client;
  }
  int plain_connection() {
    auto to = tcp_address("127.0.0.1", relay_->port()).value();
    int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::connect(fd, to.get(), to.size()), 0);
    return fd;
  }
  bool run_until(const std::function<bool()>& condition) {
    return loop_.run_until(condition, seconds(20));
  }

  EventLoop loop_;
  std::filesystem::path directory_;
  std::unique_ptr<TlsContext> context_;
  std::unique_ptr<TlsRelay> relay_;
  std::unique_ptr<UnixServer> daemon_;
  std::vector<std::unique_ptr<UnixChannel>> sessions_;
  std::size_t seen_ = 0;
  std::string notes_;
};

TEST_F(TlsRelayTest, MessagesPassInBothDirections) {
  start_daemon();
  auto client = connect();
  client->channel->send(bytes("before the handshake is over"));
  ASSERT_TRUE(run_until([&] { return client->received.size() == 2; }))
      << client->channel->trouble();
  EXPECT_EQ(client->received[0], bytes("before the handshake is over"));
  std::vector<std::byte> big(TlsRelay::max_request, std::byte{7});
  client->channel->send(big);
  client->channel->send({});
  ASSERT_TRUE(run_until([&] { return client->received.size() == 6; }));
  EXPECT_EQ(client->received[3], big);
  EXPECT_TRUE(client->received[5].empty());
  client->channel.reset();
  EXPECT_TRUE(run_until([&] { return relay_->clients() == 0; }));
}

TEST_F(TlsRelayTest, AnotherSecretIsRefusedAndReachesNobody) {
  start_daemon();
  auto client = connect("another secret");
  client->channel->send(bytes("let me in"));
  ASSERT_TRUE(run_until([&] { return client->closed && relay_->clients() == 0; }));
  EXPECT_FALSE(client->channel->ready());
  EXPECT_FALSE(client->channel->trouble().empty());
  EXPECT_EQ(seen_, 0u);
  EXPECT_TRUE(sessions_.empty()) << "the daemon is not even dialled";
}

TEST_F(TlsRelayTest, APlainClientIsRefused) {
  start_daemon();
  int fd = plain_connection();
  std::string request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  EXPECT_EQ(::send(fd, request.data(), request.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(request.size()));
  ASSERT_TRUE(run_until([&] { return !notes_.empty() && relay_->clients() == 0; }));
  ::close(fd);
  EXPECT_TRUE(sessions_.empty());
  auto client = connect();
  client->channel->send(bytes("still served"));
  EXPECT_TRUE(run_until([&] { return client->received.size() == 2; }));
}

TEST_F(TlsRelayTest, WithoutTheDaemonTheClientIsToldByTheEnd) {
  auto client = connect();
  ASSERT_TRUE(run_until([&] { return client->closed; }));
  EXPECT_NE(notes_.find("does not run"), std::string::npos) << notes_;
}

TEST_F(TlsRelayTest, TheDaemonsEndIsTheClients) {
  start_daemon();
  auto client = connect();
  client->channel->send(bytes("x"));
  ASSERT_TRUE(run_until([&] { return client->received.size() == 2; }));
  sessions_.clear();
  EXPECT_TRUE(run_until([&] { return client->closed; }));
}

TEST_F(TlsRelayTest, TooLongAMessageEndsItsClient) {
  start_daemon();
  auto client = connect();
  client->channel->send(std::vector<std::byte>(TlsRelay::max_request + 1));
  ASSERT_TRUE(run_until([&] { return client->closed; }));
  EXPECT_EQ(seen_, 0u);
}

TEST_F(TlsRelayTest, ClientsAreBounded) {
  start_daemon();
  std::vector<int> idle;
  for (std::size_t i = 0; i < TlsRelay::max_clients; ++i) idle.push_back(plain_connection());
  ASSERT_TRUE(run_until([&] { return relay_->clients() == TlsRelay::max_clients; }));
  auto client = connect();
  ASSERT_TRUE(run_until([&] { return client->closed; }));
  EXPECT_NE(notes_.find("too many"), std::string::npos);
  for (int fd : idle) ::close(fd);
  EXPECT_TRUE(run_until([&] { return relay_->clients() == 0; }));
}

TEST_F(TlsRelayTest, AStrangerWhoSaysNothingIsDropped) {
  int fd = plain_connection();
  ASSERT_TRUE(run_until([&] { return relay_->clients() == 1; }));
  EXPECT_TRUE(run_until([&] { return relay_->clients() == 0; }));
  EXPECT_NE(notes_.find("handshake"), std::string::npos);
  ::close(fd);
}

TEST_F(TlsRelayTest, AddressesAreNumeric) {
  EXPECT_EQ(TlsRelay::open(loop_, *context_, "localhost", 0, socket()).error().code,
            ErrorCode::invalid);
  EXPECT_EQ(TlsRelay::open(loop_, *context_, "127.0.0.1", relay_->port(), socket()).error().code,
            ErrorCode::io_error);
}

}  // namespace
}  // namespace duet::platform
