// ports::MessageChannel over TCP with TLS 1.3 and a pre-shared key, for management from a third
// machine: 32-bit length, then the message, as on the Unix sockets. The key is derived from a
// secret file; whoever does not have it gets no byte of ours beyond the handshake.
#pragma once

#include <openssl/types.h>

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "platform/event_loop.h"
#include "platform/fd_watcher.h"
#include "ports/message_channel.h"

namespace duet::platform {

// Key and rules of one side: TLS 1.3 only, TLS_AES_128_GCM_SHA256, PSK with (EC)DHE, no
// certificates, no tickets. The PSK is HKDF-SHA256 (RFC 5869) of the secret.
class TlsContext {
 public:
  enum class Side : std::uint8_t { server, client };
  // Error: io_error (the library refuses). The context outlives its channels.
  static Result<std::unique_ptr<TlsContext>> create(Bytes secret, Side side);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  SSL_CTX* native() const { return context_; }
  Side side() const { return side_; }
  const std::array<unsigned char, 32>& key() const { return key_; }

 private:
  TlsContext() = default;
  SSL_CTX* context_ = nullptr;
  Side side_{};
  std::array<unsigned char, 32> key_{};
};

class TlsChannel final : public ports::MessageChannel {
 public:
  static constexpr std::size_t max_pending = 16u << 20;  // unsent bytes; more closes the channel
  static constexpr Duration handshake_limit = seconds(5);

  // Requires: SIGPIPE is ignored by the process. Owns `fd`, a connected or connecting TCP socket.
  // `max_message`: bytes; a longer one closes it.
  TlsChannel(EventLoop& loop, const TlsContext& context, int fd, std::size_t max_message);
  ~TlsChannel() override;
  TlsChannel(const TlsChannel&) = delete;
  TlsChannel& operator=(const TlsChannel&) = delete;

  // Before the handshake is over messages wait.
  void send(std::vector<std::byte> message) override;
  void on_message(std::move_only_function<void(Bytes)> callback) override {
    on_message_ = std::move(callback);
  }
  // Once; trouble() says why.
  void on_closed(std::move_only_function<void()> callback) override {
    on_closed_ = std::move(callback);
  }
  void on_ready(std::move_only_function<void()> callback) { on_ready_ = std::move(callback); }
  bool ready() const { return ready_; }
  const std::string& trouble() const { return trouble_; }

 private:
  void pump();
  bool shake_hands();
  void read_all();
  void deliver();
  void write_all();
  void watch();
  bool again(int result);  // whether the library only waits for the socket
  void close(std::string why);

  EventLoop& loop_;
  const TlsContext& context_;
  SSL* ssl_ = nullptr;
  int fd_;
  std::size_t max_message_;
  std::unique_ptr<FdWatcher> watcher_;
  ports::TimerId limit_{};
  bool ready_ = false;
  bool wants_write_ = false;
  std::vector<std::byte> in_;
  std::deque<std::vector<std::byte>> out_;
  std::size_t out_offset_ = 0;
  std::size_t pending_ = 0;
  std::string trouble_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::move_only_function<void(Bytes)> on_message_;
  std::move_only_function<void()> on_closed_, on_ready_;
};

// Begins to connect to a numeric address. Errors: invalid (no address), io_error.
Result<std::unique_ptr<TlsChannel>> connect_tls(EventLoop& loop, const TlsContext& context,
                                                const std::string& address, std::uint16_t port,
                                                std::size_t max_message);

}  // namespace duet::platform
