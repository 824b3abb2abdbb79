// Client connections over TCP: ports::Network with plain non-blocking sockets on the event loop.
//
// Data is received straight into the handler's buffer; everything sent in one turn of the loop
// leaves at its end, many slices per system call. No Nagle; socket buffers and pending bytes are
// bounded.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <utility>

#include "platform/event_loop.h"
#include "ports/stream.h"

namespace duet::platform {

class TcpNetwork final : public ports::Network {
 public:
  explicit TcpNetwork(EventLoop& loop);
  // Closes every connection without a word to its handler.
  ~TcpNetwork() override;

  Result<std::unique_ptr<ports::Listener>> listen(const std::string& address, std::uint16_t port,
                                                  bool foreign, Accept accept) override;

  // This address comes and goes: a listener on it needs no interface that has it now, and is never
  // `foreign` to this machine.
  void let_float(std::string address) { floating_.insert(std::move(address)); }

  std::size_t open_streams() const;

  // Kernel buffers of a connection, each direction.
  static constexpr int socket_buffer_bytes = 1 << 20;
  // A connection with more than this to send is not read from until the peer has taken some.
  static constexpr std::size_t stop_reading_above = 8u << 20;
  // A connection with more than this to send is broken off.
  static constexpr std::size_t max_pending_bytes = 256u << 20;
  // Fairness: what one connection may receive in one turn.
  static constexpr std::size_t max_receive_per_turn = 1u << 20;
  static constexpr std::size_t max_streams = 4096;  // further connections are refused
  static constexpr Duration max_flush_time = seconds(1);
  static constexpr Duration accept_retry_interval = milliseconds(100);  // out of descriptors

  struct Core;  // shared with streams and listeners

 private:
  std::shared_ptr<Core> core_;
  std::set<std::string> floating_;
};

// The interface that holds a numeric address: what a socket is bound to so that it outranks
// listeners bound to the address only. 127.0.0.0/8 and ::1: "lo". Error: not_found.
Result<std::string> interface_of(const std::string& address);

}  // namespace duet::platform
