#include "platform/tls_channel.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "platform/tcp_address.h"

namespace duet::platform {
namespace {

constexpr std::size_t header_size = 4;
constexpr std::string_view identity = "duet-management";
constexpr std::string_view salt = "duet management";
constexpr std::string_view info = "tls 1.3 psk, version 1";

const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

std::string library_error() {
  auto code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) return "the connection ended";
  const char* reason = ERR_reason_error_string(code);
  return reason ? reason : "TLS error " + std::to_string(code);
}

bool derive(Bytes secret, std::array<unsigned char, 32>& key) {
  std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> kdf(
      EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, nullptr), EVP_PKEY_CTX_free);
  auto size = key.size();
  return kdf && EVP_PKEY_derive_init(kdf.get()) == 1 &&
         EVP_PKEY_CTX_set_hkdf_md(kdf.get(), EVP_sha256()) == 1 &&
         EVP_PKEY_CTX_set1_hkdf_salt(kdf.get(), bytes_of(salt), static_cast<int>(salt.size())) ==
             1 &&
         EVP_PKEY_CTX_set1_hkdf_key(kdf.get(),
                                    reinterpret_cast<const unsigned char*>(secret.data()),
                                    static_cast<int>(secret.size())) == 1 &&
         EVP_PKEY_CTX_add1_hkdf_info(kdf.get(), bytes_of(info), static_cast<int>(info.size())) ==
             1 &&
         EVP_PKEY_derive(kdf.get(), key.data(), &size) == 1 && size == key.size();
}

const TlsContext& context_of(SSL* ssl) {
  return *static_cast<const TlsContext*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
}

// The session that the pre-shared key stands for (RFC 8446, 4.2.11).
SSL_SESSION* make_session(SSL* ssl) {
  constexpr unsigned char aes_128_gcm_sha256[] = {0x13, 0x01};
  const auto* cipher = SSL_CIPHER_find(ssl, aes_128_gcm_sha256);
  const auto& key = context_of(ssl).key();
  SSL_SESSION* session = SSL_SESSION_new();
  if (session && cipher && SSL_SESSION_set1_master_key(session, key.data(), key.size()) == 1 &&
      SSL_SESSION_set_cipher(session, cipher) == 1 &&
      SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1) {
    return session;
  }
  SSL_SESSION_free(session);
  return nullptr;
}

int find_session(SSL* ssl, const unsigned char* name, std::size_t size, SSL_SESSION** session) {
  *session = nullptr;  // without one the handshake fails: there are no certificates
  if (size == identity.size() && std::memcmp(name, identity.data(), size) == 0) {
    *session = make_session(ssl);
  }
  return 1;
}

int use_session(SSL* ssl, const EVP_MD*, const unsigned char** name, std::size_t* size,
                SSL_SESSION** session) {
  *session = make_session(ssl);
  *name = bytes_of(identity);
  *size = identity.size();
  return *session != nullptr;
}

}  // namespace

Result<std::unique_ptr<TlsContext>> TlsContext::create(Bytes secret, Side side) {
  std::unique_ptr<TlsContext> made(new TlsContext);
  made->side_ = side;
  auto* ctx = SSL_CTX_new(side == Side::server ? TLS_server_method() : TLS_client_method());
  made->context_ = ctx;
  if (!ctx || !derive(secret, made->key_) ||
      SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256") != 1 ||
      SSL_CTX_set_num_tickets(ctx, 0) != 1) {
    return fail(ErrorCode::io_error, "TLS cannot be set up: " + library_error());
  }
  SSL_CTX_set_app_data(ctx, made.get());
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  if (side == Side::server) {
    SSL_CTX_set_psk_find_session_callback(ctx, find_session);
  } else {
    SSL_CTX_set_psk_use_session_callback(ctx, use_session);
    // A server that shows a certificate instead of knowing the key is nobody we trust. (Ours has no
    // certificate: without the key there is no handshake.)
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, nullptr);
  }
  return made;
}

TlsContext::~TlsContext() {
  SSL_CTX_free(context_);
  OPENSSL_cleanse(key_.data(), key_.size());
}

TlsChannel::TlsChannel(EventLoop& loop, const TlsContext& context, int fd, std::size_t max_message)
    : loop_(loop), context_(context), fd_(fd), max_message_(max_message) {
  ssl_ = SSL_new(context.native());
  ASSERT(ssl_ && SSL_set_fd(ssl_, fd) == 1);
  if (context.side() == TlsContext::Side::server) {
    SSL_set_accept_state(ssl_);
  } else {
    SSL_set_connect_state(ssl_);
  }
  watcher_ = std::make_unique<FdWatcher>(loop, fd, [this](bool, bool) { pump(); });
  // A socket that is still connecting becomes writable when it has connected, or failed.
  wants_write_ = context.side() == TlsContext::Side::client;
  watch();
  limit_ = loop_.at(loop_.now() + handshake_limit, [this] { close("no answer to the handshake"); });
}

TlsChannel::~TlsChannel() {
  *alive_ = false;
  on_closed_ = nullptr;
  close({});
  SSL_free(ssl_);
}

void TlsChannel::send(std::vector<std::byte> message) {
  if (fd_ < 0) return;
  ASSERT(message.size() <= ~std::uint32_t{0});
  std::vector<std::byte> header(header_size);
  store_le<std::uint32_t>(header.data(), static_cast<std::uint32_t>(message.size()));
  pending_ += header_size + message.size();
  out_.push_back(std::move(header));
  if (!message.empty()) out_.push_back(std::move(message));
  if (pending_ > max_pending) return close("the other side does not read");
  if (!ready_) return;
  write_all();
  watch();
}

void TlsChannel::pump() {
  auto alive = alive_;
  wants_write_ = false;
  if (!ready_ && !shake_hands()) return watch();
  if (*alive && fd_ >= 0) write_all();
  if (*alive && fd_ >= 0) read_all();
  if (*alive) watch();
}

bool TlsChannel::shake_hands() {
  int r = SSL_do_handshake(ssl_);
  if (r != 1) {
    if (!again(r)) close(library_error());
    return false;
  }
  // Not by the key: never, as there are no certificates; but never trust what was not proved.
  if (SSL_session_reused(ssl_) != 1) {
    close("the other side does not know the key");
    return false;
  }
  loop_.cancel(limit_);
  ready_ = true;
  auto alive = alive_;
  if (on_ready_) on_ready_();
  return *alive && fd_ >= 0;
}

bool TlsChannel::again(int result) {
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ:
      return true;
    case SSL_ERROR_WANT_WRITE:
      wants_write_ = true;
      return true;
    default:
      return false;
  }
}

void TlsChannel::read_all() {
  std::byte buffer[16384];
  while (fd_ >= 0) {
    int n = SSL_read(ssl_, buffer, sizeof buffer);
    if (n <= 0) {
      if (!again(n)) close(library_error());
      return;
    }
    in_.insert(in_.end(), buffer, buffer + n);
    auto alive = alive_;
    deliver();
    if (!*alive) return;
  }
}

void TlsChannel::deliver() {
  auto alive = alive_;
  std::size_t at = 0;
  while (in_.size() - at >= header_size) {
    auto size = load_le<std::uint32_t>(in_.data() + at);
    if (size > max_message_) return close("a message of more than the allowed size");
    if (in_.size() - at < header_size + size) break;
    auto begin = in_.begin() + static_cast<std::ptrdiff_t>(at + header_size);
    // Copied out: the callback may send, close or destroy us.
    std::vector<std::byte> message(begin, begin + static_cast<std::ptrdiff_t>(size));
    at += header_size + size;
    if (on_message_) on_message_(message);
    if (!*alive || fd_ < 0) return;
  }
  in_.erase(in_.begin(), in_.begin() + static_cast<std::ptrdiff_t>(at));
}

void TlsChannel::write_all() {
  while (!out_.empty()) {
    auto& front = out_.front();
    int n =
        SSL_write(ssl_, front.data() + out_offset_, static_cast<int>(front.size() - out_offset_));
    if (n <= 0) {
      if (!again(n)) close(library_error());
      return;
    }
    out_offset_ += static_cast<std::size_t>(n);
    pending_ -= static_cast<std::size_t>(n);
    if (out_offset_ < front.size()) continue;
    out_.pop_front();
    out_offset_ = 0;
  }
}

void TlsChannel::watch() {
  if (watcher_) watcher_->want(true, wants_write_ || (ready_ && !out_.empty()));
}

void TlsChannel::close(std::string why) {
  if (fd_ < 0) return;
  loop_.cancel(limit_);
  if (ready_) SSL_shutdown(ssl_);  // best effort, does not wait
  ERR_clear_error();
  watcher_.reset();
  ::close(fd_);
  fd_ = -1;
  out_.clear();
  pending_ = 0;
  trouble_ = std::move(why);
  if (!on_closed_) return;
  loop_.post([this, alive = alive_] {
    if (*alive && on_closed_) on_closed_();
  });
}

Result<std::unique_ptr<TlsChannel>> connect_tls(EventLoop& loop, const TlsContext& context,
                                                const std::string& address, std::uint16_t port,
                                                std::size_t max_message) {
  auto target = tcp_address(address, port);
  if (!target) return std::unexpected(target.error());
  int fd = ::socket(target->family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0 || (::connect(fd, target->get(), target->size()) != 0 && errno != EINPROGRESS)) {
    auto why = std::string(std::strerror(errno));
    if (fd >= 0) ::close(fd);
    return fail(ErrorCode::disconnected, address + ": " + why);
  }
  return std::make_unique<TlsChannel>(loop, context, fd, max_message);
}

}  // namespace duet::platform
