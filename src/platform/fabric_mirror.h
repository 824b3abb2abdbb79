// ports::MirrorLink over libfabric, for the engine: RDMA writes straight from the NVRAM region, and
// the window that the partner has into it. Open this header first.
#pragma once

#include <memory>
#include <string>

#include "platform/fabric_peer.h"
#include "ports/mirror_link.h"

namespace duet::platform {

struct FabricMirrorOptions {
  std::string provider = "tcp";
  FabricAddress listen;  // port 0: the kernel chooses, see port()
  interconnect::Self self;
  MutableBytes region;                             // the NVRAM region; outlives the link
  Duration operation_timeout = milliseconds(500);  // of a write
  Duration dial_limit = milliseconds(1000);        // connection and handshake
  Duration shortest_rest = milliseconds(20);       // between attempts; doubles up to longest_rest
  Duration longest_rest = milliseconds(200);
};

class FabricMirror final : public ports::MirrorLink {
 public:
  // Listens at once, with the window closed. Errors: io_error (provider, address in use), invalid
  // (secret too short).
  static Result<std::unique_ptr<FabricMirror>> open(EventLoop& loop, FabricMirrorOptions options);
  // Not from inside a callback of its own.
  ~FabricMirror() override;
  FabricMirror(const FabricMirror&) = delete;
  FabricMirror& operator=(const FabricMirror&) = delete;

  void on_outgoing(std::move_only_function<void(bool)> callback) override {
    on_outgoing_ = std::move(callback);
  }
  bool outgoing_up() const override { return up_; }
  void write(std::uint64_t offset, std::uint64_t length, ports::Done<void> done) override;
  void dial(const std::string& host, std::uint16_t port, BootNonce partner_nonce) override;
  void hang_up() override;

  void open_window(std::uint64_t offset, std::uint64_t length, BootNonce partner_nonce) override;
  void close_window() override;
  bool incoming_up() const override { return incoming_ != nullptr; }
  std::uint16_t port() const override { return listener_->port(); }

  // Why the outgoing connection is not up, for people.
  const std::string& why() const { return why_; }

 private:
  FabricMirror(EventLoop& loop, FabricMirrorOptions options);
  FabricConnection::Limits limits() const;

  void attempt();
  void rest(std::string why);
  void on_dialled(std::expected<FabricDialer::Admitted, FabricDialer::Refusal> outcome);
  void tell(bool up);
  void on_authenticated(FabricListener::Authenticated authenticated);
  void close_incoming();

  EventLoop& loop_;
  FabricMirrorOptions options_;
  std::unique_ptr<FabricListener> listener_;

  // Outgoing.
  FabricInfo partner_info_;  // while dialled
  BootNonce partner_nonce_;
  std::unique_ptr<FabricDialer> dialer_;
  std::shared_ptr<FabricConnection> outgoing_;
  interconnect::Grant window_at_partner_;
  ports::TimerId timer_;
  Duration rest_;
  bool up_ = false;
  std::string why_ = "not dialled";
  std::size_t writes_ = 0;
  std::move_only_function<void(bool)> on_outgoing_;

  // Incoming.
  std::uint64_t window_offset_ = 0;
  std::uint64_t window_length_ = 0;  // 0: closed
  BootNonce window_nonce_;
  std::shared_ptr<FabricConnection> incoming_;
  // Guards what is posted to the loop.
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace duet::platform
