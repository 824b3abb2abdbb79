#include "client.h"

namespace duet::cli {

Result<std::unique_ptr<Client>> Client::connect(const std::string& socket_path) {
  auto client = std::make_unique<Client>();
  auto channel = platform::connect_unix(client->loop_, socket_path);
  if (!channel) {
    return fail(channel.error().code, channel.error().message + "; is duetd running on this node?");
  }
  client->channel_ = std::move(*channel);
  auto* self = client.get();
  self->channel_->on_message([self](Bytes bytes) {
    if (auto reply = unarchive<admin::Reply>(bytes)) {
      self->replies_.push_back(std::move(*reply));
    } else {
      self->malformed_ = true;
    }
  });
  self->channel_->on_closed([self] { self->closed_ = true; });
  return client;
}

void Client::send(const admin::Request& request) {
  channel_->send(archive(request));
}

Result<admin::Reply> Client::receive(Duration limit) {
  bool in_time =
      loop_.run_until([this] { return !replies_.empty() || closed_ || malformed_; }, limit);
  if (malformed_) {
    return fail(ErrorCode::invalid, "duetd is of another version than this command; restart it");
  }
  if (!replies_.empty()) {
    auto reply = std::move(replies_.front());
    replies_.pop_front();
    return reply;
  }
  if (!in_time) return fail(ErrorCode::timed_out, "no answer");
  return fail(ErrorCode::disconnected, "duetd went away");
}

}  // namespace duet::cli
