// The storage of one identity as the services use it: LUNs whose changes come from the log.
// Implemented by pool::Pool.
//
// Life of a change: admit(record) -> append it to the log -> apply(position, record) in the same
// turn (it is now in memory and seen by reads) -> answer the client when the log says so. A
// consistency point brings everything applied so far to the disks; only then, at
// on_consistency_point, the log up to there is free. Single-threaded; callbacks and Dones come from
// the scheduler. Every Done is called once, `cancelled` after close(), also when the object is gone
// by then.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "disk/areas.h"
#include "filesystem/log_record.h"
#include "nvlog/position.h"
#include "ports/disk.h"
#include "ports/scheduler.h"

namespace duet::filesystem {

inline constexpr std::uint64_t max_read_length = 8ull << 20;  // bytes in one read

// Right after a record: the sequence orders records (never reused), the rest is the log's, kept for
// it.
using nvlog::LogPosition;

struct LunInfo {
  LunNumber number;
  std::string name;
  std::uint64_t size = 0;               // bytes
  std::string serial;                   // VPD page 80h
  std::uint64_t naa = 0;                // VPD page 83h, NAA 3h
  std::vector<std::byte> reservations;  // opaque state of the last ReservationsRecord; empty: none
  std::string offline;                  // not empty: must not be served, and why
  bool reserved = false;                // space for all of it is kept
};

enum class StorageState : std::uint8_t {
  closed,     // open() has not succeeded, or close()
  read_only,  // metadata known, perhaps stale while another node is active
  active,     // records are applied, consistency points run
  fenced,     // a reservation keeps us out: for good, until close()
  offline,    // a poison record or impossible metadata: see health(); the log stays as it is
};

struct Capacity {
  std::uint64_t size = 0;  // bytes for LUNs
  std::uint64_t free = 0;  // bytes that prepare_create could give now
  std::uint64_t unit = 0;  // sizes are rounded up to this
};

class Storage {
 public:
  virtual ~Storage() = default;

  // ---- life ----
  virtual StorageState state() const = 0;
  // Reads the metadata: closed -> read_only. Writes nothing, so a survivor may keep its partner's
  // storage open warm. Errors: not_found (no pool here), invalid, unsupported_version, and those of
  // the disk.
  virtual void open(ports::Done<void> done) = 0;
  // read_only or closed -> active. Requires: we are fenced in on every disk. Reads the metadata
  // again if another node changed it since. Errors: refused (the disks know a newer epoch), and
  // those of open; stays as it was.
  virtual void activate(Epoch epoch, ports::Done<void> done) = 0;
  // Asked by activate() before anything else is read: the stripe_journal records that the log has
  // after `position` (docs/formats/stripe_journal.md). They stay valid until it calls back.
  using StripeRecords = std::function<std::vector<Slice>(const LogPosition& position)>;
  virtual void on_stripe_records(StripeRecords callback) = 0;
  // active -> read_only through a last consistency point; nothing is admitted from the call on.
  // Errors: reservation_conflict, cancelled. Waits as long as the disks do not take it.
  virtual void deactivate(ports::Done<void> done) = 0;
  // Drops everything, dirty data too, at once: -> closed.
  virtual void close() = 0;

  // ---- LUNs ----
  virtual std::vector<LunInfo> luns() const = 0;         // by number
  virtual const LunInfo* find(LunNumber lun) const = 0;  // null: none; valid until the next apply
  virtual Capacity capacity() const = 0;
  // The record that creates a LUN of at least `size` bytes (rounded up to 4 KiB) under the lowest
  // free number. Holds until the next apply. `reserve`: space for all of it is kept, so that no
  // write to it finds the storage full. Errors: invalid (name or size), already_exists, no_space.
  virtual Result<LogRecord> prepare_create(const std::string& name, std::uint64_t size,
                                           bool reserve = false) const = 0;

  // ---- changes ----
  // May this record be logged? After `ok` and with nothing applied in between, apply cannot fail.
  // Errors: busy (memory bound: wait for on_consistency_point), not_found, invalid, already_exists,
  // no_space, refused (not active, or the LUN is offline).
  virtual Status admit(const LogRecord& record) const = 0;
  // Requires: active, positions in ascending order. Records at or before position() or the last
  // applied one are ignored: replaying twice is replaying once. Takes replayed records without
  // admit(). A poison record takes its LUN offline, or all of us if it names none that exists, and
  // is returned as an error.
  virtual Status apply(const LogPosition& position, const LogRecord& record) = 0;
  // A record that is not for us: the next consistency point contains it.
  virtual void skip(const LogPosition& position) = 0;

  // Bytes as of now, with everything applied. Offset and length: multiples of sector_size, inside
  // the LUN. Errors: not_found, invalid, refused (not open, LUN offline), io_error (medium),
  // reservation_conflict; disconnected, timed_out and busy pass: to a client they are BUSY, never a
  // medium error.
  virtual void read(LunNumber lun, std::uint64_t offset, std::uint64_t length,
                    ports::Done<std::vector<Slice>> done) = 0;

  // ---- consistency points ----
  // Brings everything applied so far to the disks. While one is under way: another follows it.
  virtual void start_consistency_point() = 0;
  virtual bool needs_consistency_point() const = 0;  // half of dirty_limit() waits for the next one
  virtual std::uint64_t dirty_bytes()
      const = 0;  // applied, not yet contained in a consistency point
  virtual std::uint64_t dirty_limit() const = 0;
  // Records up to here are on the disks, whatever happens to the log.
  virtual LogPosition position() const = 0;
  // After each consistency point, with position(): the log up to there may be freed.
  virtual void on_consistency_point(std::function<void(const LogPosition&)> callback) = 0;

  // ---- trouble ----
  // A disk of ours that was away when we were made is here, and may be written.
  virtual void disk_returned(ports::Disk& disk, DiskId id, disk::Area data) = 0;
  // A disk lost power or was reset: what was in its cache may be gone.
  virtual void disks_were_reset() = 0;
  // A reservation keeps us out (state fenced): stop acknowledging at once.
  virtual void on_fenced(std::function<void(const std::string& why)> callback) = 0;
  // Sentence for people: empty when all is well, else what is wrong ("consistency point 12 failed
  // on disk shelf1/3: ..., trying again"). Called when it changes.
  virtual void on_health(std::function<void(const std::string& health)> callback) = 0;
  virtual const std::string& health() const = 0;
};

}  // namespace duet::filesystem
