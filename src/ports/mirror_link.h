// The engine's end of the NVRAM mirror: one-sided writes of our region into the partner's region at
// the same offset, and the window the partner has into ours.
//
// The two directions are two connections. Outgoing: we dial the partner's mirror port and write.
// Incoming: the partner writes into the part of our region that we opened for it.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/ids.h"
#include "ports/scheduler.h"

namespace duet::ports {

class MirrorLink {
 public:
  virtual ~MirrorLink() = default;

  // Outgoing. `up` is told after authentication and after the partner opened its window (again);
  // `up(false)` when the connection is lost, revoked by the partner, or a write did not complete
  // within its timeout: then every write under way fails, and the connection is closed. A write
  // that failed may still have landed, or land until the partner closes its window.
  virtual void on_outgoing(std::move_only_function<void(bool up)> callback) = 0;
  virtual bool outgoing_up() const = 0;
  // Writes region[offset, offset + length) of ours to the same place at the partner. Done means it
  // is there and persistent there as far as the partner's NVRAM is (delivery and commit complete).
  // The bytes are not copied: they may not change until done. Completions come in the order of the
  // calls. Errors: disconnected, timed_out, invalid (outside of the partner's window), busy (more
  // than max_writes under way).
  static constexpr std::size_t max_writes = 1024;
  virtual void write(std::uint64_t offset, std::uint64_t length, Done<void> done) = 0;
  // Connects to the partner's mirror port and, after a loss, again, for ever and cheaply, until
  // hang_up() or another dial(). Only an engine of the boot `partner_nonce` is accepted.
  virtual void dial(const std::string& host, std::uint16_t port, BootNonce partner_nonce) = 0;
  // Closes the outgoing connection. The writes under way fail with `disconnected`.
  virtual void hang_up() = 0;

  // Incoming. Opens region[offset, offset + length) to the writes of the partner's boot
  // `partner_nonce`, and closes what was open before.
  virtual void open_window(std::uint64_t offset, std::uint64_t length, BootNonce partner_nonce) = 0;
  // Takes the partner's access away. When this returns no write of the partner can reach our region
  // any more, late ones included (invariant I3 for the log): the memory region and the connection
  // are closed. Stays closed until open_window.
  virtual void close_window() = 0;
  virtual bool incoming_up() const = 0;
  // Where our listener is, for the partner's dial().
  virtual std::uint16_t port() const = 0;
};

}  // namespace duet::ports
