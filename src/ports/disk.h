// A disk as one process of one node sees it through one path: block I/O and SCSI-3 persistent
// reservations (SPC-4 5.12). One object is one I_T nexus: what it registers is its own
// registration.
//
// Bounds: at most `queue_depth` operations are at the disk, the rest wait in a bounded queue; a
// full queue answers `busy`. Every operation ends within the command timeout of the configuration;
// an operation that times out may still happen, until the reservation keeps it out.
//
// Errors: reservation_conflict (we are fenced or not registered), disconnected (no path now; the
// adapter reconnects by itself with the same ISID), timed_out, io_error, busy, invalid.
// A disconnected operation is never repeated by the adapter: it may or may not have happened.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "ports/scheduler.h"

namespace duet::ports {

enum class ReservationType : std::uint8_t {  // SPC-4 table 67
  write_exclusive = 1,
  exclusive_access = 3,
  write_exclusive_registrants_only = 5,
  exclusive_access_registrants_only = 6,
  write_exclusive_all_registrants = 7,
  exclusive_access_all_registrants = 8,
};

struct RegisteredKeys {
  std::uint32_t generation = 0;      // PRGENERATION
  std::vector<ReservationKey> keys;  // one per registered nexus, so a key may repeat
};
struct ReservationState {
  std::uint32_t generation = 0;
  bool reserved = false;
  ReservationKey holder;   // if reserved
  ReservationType type{};  // if reserved
};

struct DiskGeometry {
  std::uint64_t size = 0;        // bytes
  std::uint32_t block_size = 0;  // bytes
  bool volatile_cache = false;   // WCE: without FUA or flush a write may be lost with power
  std::string serial;            // unit serial number, VPD page 80h
};

// What the disk told us by a unit attention. The operation that met it has been repeated where that
// is safe; who relies on reservations must read them again.
enum class Attention : std::uint8_t {
  power_on_or_reset,        // 29h: registrations may be gone unless they persist (APTPL)
  reservations_preempted,   // 2A/03
  reservations_released,    // 2A/04
  registrations_preempted,  // 2A/05
  capacity_changed,         // 2A/09
  other,
};

class Disk {
 public:
  virtual ~Disk() = default;

  virtual const std::string& name() const = 0;  // for people: shelf and LUN
  virtual bool connected() const = 0;
  // Valid once connected() was true for the first time.
  virtual const DiskGeometry& geometry() const = 0;
  // Called when connected() changes, and for each unit attention. Set before the first operation.
  virtual void on_connection(std::move_only_function<void(bool connected)> callback) = 0;
  virtual void on_attention(std::move_only_function<void(Attention)> callback) = 0;

  // Offsets and sizes in bytes, multiples of the block size. `into` stays valid until done.
  virtual void read(std::uint64_t offset, MutableBytes into, Done<void> done) = 0;
  // Done means on the medium if `durable`, else at least in the disk's cache.
  virtual void write(std::uint64_t offset, std::vector<Slice> data, bool durable,
                     Done<void> done) = 0;
  virtual void flush(Done<void> done) = 0;

  // PERSISTENT RESERVE OUT. All set APTPL = 1 where the service action has it.
  // REGISTER AND IGNORE EXISTING KEY; key 0 unregisters.
  virtual void register_key(ReservationKey key, Done<void> done) = 0;
  virtual void reserve(ReservationKey key, ReservationType type, Done<void> done) = 0;
  virtual void release(ReservationKey key, ReservationType type, Done<void> done) = 0;
  // PREEMPT, or PREEMPT AND ABORT: removes all registrations of `victim` and, when the victim holds
  // the reservation (or `victim` is our own key and we hold it), makes us its holder with `type`.
  virtual void preempt(ReservationKey key, ReservationKey victim, ReservationType type, bool abort,
                       Done<void> done) = 0;
  // PERSISTENT RESERVE IN.
  virtual void read_keys(Done<RegisteredKeys> done) = 0;
  virtual void read_reservation(Done<ReservationState> done) = 0;
};

}  // namespace duet::ports
