#include "client.h"

#include <csignal>

#include "base/ip_address.h"
#include "node/credentials.h"
#include "platform/unix_channel.h"

namespace duet::cli {
namespace {

constexpr std::size_t max_reply = platform::UnixChannel::max_message;

}  // namespace

Result<std::unique_ptr<Client>> Client::connect(const Target& target) {
  auto client = std::make_unique<Client>();
  if (auto dialled = client->dial(target); !dialled) return std::unexpected(dialled.error());
  client->attach();
  return client;
}

Status Client::dial(const Target& target) {
  if (!target.socket.empty()) {
    auto channel = platform::connect_unix(loop_, target.socket);
    if (!channel) {
      return fail(channel.error().code,
                  channel.error().message + "; is duetd running on this node?");
    }
    channel_ = std::move(*channel);
    return {};
  }
  auto secret = node::load_secret(target.secret_file);
  if (!secret) return std::unexpected(secret.error());
  auto context = platform::TlsContext::create(*secret, platform::TlsContext::Side::client);
  if (!context) return std::unexpected(context.error());
  tls_ = std::move(*context);
  Status last = fail(ErrorCode::disconnected, "no node to ask");
  for (const auto& remote : target.remotes) {
    last = dial_remote(remote);
    if (last) break;
  }
  return last;
}

Status Client::dial_remote(const Target::Remote& remote) {
  auto where = host_and_port(remote.address, remote.port);
  auto channel = platform::connect_tls(loop_, *tls_, remote.address, remote.port, max_reply);
  if (!channel) return std::unexpected(channel.error());
  bool closed = false;
  (*channel)->on_closed([&] { closed = true; });
  auto* tls = channel->get();
  bool over = loop_.run_until([&] { return tls->ready() || closed; },
                              platform::TlsChannel::handshake_limit + seconds(1));
  if (!over || closed) {
    return fail(ErrorCode::disconnected,
                where + ": " + tls->trouble() +
                    "; does duet-apid run there, and is the secret file the same as its "
                    "management.secret_file?");
  }
  channel_ = std::move(*channel);
  return {};
}

void Client::attach() {
  channel_->on_message([this](Bytes bytes) {
    if (auto reply = admin::from_message<admin::Reply>(bytes)) {
      replies_.push_back(std::move(*reply));
    } else {
      malformed_ = reply.error();
    }
  });
  channel_->on_closed([this] { closed_ = true; });
}

void Client::send(const admin::Request& request) {
  channel_->send(admin::to_message(request));
}

void Client::catch_interrupts() {
  loop_.on_signals({SIGINT}, [this](int) { interrupted_ = true; });
}

Result<admin::Reply> Client::receive(Duration limit) {
  bool in_time = loop_.run_until(
      [this] { return !replies_.empty() || closed_ || malformed_ || interrupted_; }, limit);
  if (interrupted_) return fail(ErrorCode::cancelled, "interrupted");
  if (!replies_.empty()) {
    auto reply = std::move(replies_.front());
    replies_.pop_front();
    return reply;
  }
  if (malformed_) return std::unexpected(*malformed_);
  if (!in_time) return fail(ErrorCode::timed_out, "no answer");
  return fail(ErrorCode::disconnected,
              "the daemon closed the connection: it ended, or has too many clients");
}

}  // namespace duet::cli
