// Client connections: bytes in, slices out. One owner (the server) holds the sockets; everything
// above sees only this.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "ports/scheduler.h"

namespace duet::ports {

// Implemented by the protocol server for each connection.
class StreamHandler {
 public:
  virtual ~StreamHandler() = default;
  // Where the next bytes shall go; empty: stop reading until Stream::resume_reading. Bytes are
  // received straight into it, so that data needs no copy on its way.
  virtual MutableBytes receive_buffer() = 0;
  virtual void on_received(std::size_t size) = 0;
  // All sent slices up to here have left; `pending` bytes still wait. For back-pressure.
  virtual void on_sent(std::size_t pending) = 0;
  // The peer closed, the connection broke, or close() was called. The last call.
  virtual void on_closed() = 0;
};

class Stream {
 public:
  virtual ~Stream() = default;
  virtual const std::string& peer() const = 0;  // address:port
  // Sent in order. All sends of one scheduler turn leave in as few system calls as possible.
  virtual void send(std::vector<Slice> data) = 0;
  virtual std::size_t pending() const = 0;  // bytes not yet handed to the transport
  virtual void resume_reading() = 0;
  // Sends what is pending if `flush` (bounded by a second), then closes; on_closed follows.
  virtual void close(bool flush) = 0;
};

class Listener {
 public:
  virtual ~Listener() = default;           // stops listening; accepted streams live on
  virtual std::uint16_t port() const = 0;  // the chosen one when asked for port 0
};

class Network {
 public:
  virtual ~Network() = default;
  using Accept = std::move_only_function<std::shared_ptr<StreamHandler>(std::shared_ptr<Stream>)>;
  // Listens on a numeric address. `foreign`: the address belongs to the partner's identity and this
  // node serves it after a takeover; it then outranks a listener that the stopped owner left behind
  // on the same machine. Error: io_error (address in use, not ours), with the reason.
  virtual Result<std::unique_ptr<Listener>> listen(const std::string& address, std::uint16_t port,
                                                   bool foreign, Accept accept) = 0;
};

}  // namespace duet::ports
