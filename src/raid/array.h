// The blocks of a pool over its disks: reads that repair what checksums find wrong, batches of
// writes that keep parity, degraded service, reconstruction, scrub. Single-threaded; Dones come
// from the scheduler, each exactly once, `cancelled` after close().
//
// Invariants:
//  R1 A stripe with a live block has consistent parity on the members in use, or a stripe journal
//     record (docs/formats/stripe_journal.md) newer than the last superblock says how to make it
//     so. Stripes without live blocks may hold anything.
//  R2 A member is used for reading only when in_sync, or rebuilding and the block is valid on it.
//  R3 Nothing that a member missed is trusted again: it leaves by a change of the layout, which is
//     on the disks (the owner's next superblock) before anything that it missed is promised.
//  R4 A block is handed out only if its checksum is right.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/data_memory.h"
#include "base/result.h"
#include "ports/disk.h"
#include "ports/scheduler.h"
#include "raid/layout.h"

namespace duet::raid {

struct BlockRead {
  BlockAddress address;
  std::uint32_t crc = 0;  // CRC32C of the block
  MutableBytes into;      // block_size bytes, valid until done
};

struct BlockWrite {
  BlockAddress address;
  Slice data;  // block_size bytes
};

struct MemberReport {
  std::uint32_t number = 0;
  Member member;
  bool present = false;               // its disk is at hand and connected
  bool slow = false;                  // answers much later than its neighbours
  std::uint64_t read_errors = 0;      // medium errors and checksums that were wrong
  std::uint64_t repaired_blocks = 0;  // written again from redundancy
};

// How stripes were written since the array was made.
struct WriteFigures {
  std::uint64_t full_stripes = 0;     // all data blocks were given
  std::uint64_t filled_stripes = 0;   // the others were free: zeros
  std::uint64_t partial_stripes = 0;  // with live blocks among the others: journal, reads
};

struct Progress {
  bool running = false;
  std::uint64_t done = 0;   // blocks per member
  std::uint64_t total = 0;  // blocks per member
};

class Array {
 public:
  struct Disk {
    DiskId id;
    ports::Disk* port = nullptr;    // outlives the array
    std::uint64_t data_offset = 0;  // bytes: start of the data area on the disk
  };
  struct Options {
    std::vector<Disk> disks;  // at hand: members and spares, in any order; absent ones are missing
    Layout layout;
    // A member that did not take a write this long although it was tried again is failed, if the
    // group bears it.
    Duration patience = seconds(2);
    // A read of one member that takes longer is answered from the others, too, if they can.
    Duration hedge_after = milliseconds(50);
    std::uint64_t rebuild_rate = 64ull << 20;  // bytes per second and group, 0: no limit
    std::size_t writes_per_disk = 8;           // under way
    std::size_t reads_per_disk = 16;           // under way
  };
  // What the owner knows and the array asks for.
  struct Owner {
    // Does the block hold anything that a superblock, or the consistency point under way, refers
    // to? From the call of write() on that brings it, at the latest. Free blocks of a stripe may be
    // overwritten with zeros.
    std::function<bool(BlockAddress)> live;
    // Keeps a stripe journal record in the NVRAM of both nodes; `done` ok: it is there. Error
    // refused or no_space: not now; the array then writes it to two disks itself. May be empty.
    std::function<void(DataBytes record, ports::Done<void> done)> journal;
    // The layout has changed: the owner writes a superblock soon. It is in force at once.
    std::function<void()> layout_changed;
    // Sentence for people: a member failed, a block was repaired, a disk is slow ...
    std::function<void(const std::string& text)> event;
    std::function<void(const std::string& why)> fenced;  // a reservation keeps us out
    // A disk is about to become a member (docs/protocols/raid.md, Spares). `done` ok: what it bore
    // counts no more, and nobody else writes to it. Nothing but the use of this disk waits for it,
    // and that for claim_patience at most. May be empty: disks are taken at once.
    std::function<void(const Disk& disk, ports::Done<void> done)> claim;
    // A member has failed and this spare, which is not at hand, could take its place. Said again as
    // long as that is so. May be empty.
    std::function<void(DiskId spare)> spare_missed;
  };

  static constexpr Duration claim_patience = seconds(10);
  static constexpr Duration spare_retry_delay = seconds(1);  // for one that could not be taken

  Array(ports::Scheduler& scheduler, Options options, Owner owner);
  ~Array();

  // Before anything else of a new pool: erases the stripe journals that its disks may bear from
  // another pool.
  void format(ports::Done<void> done);
  // Before anything else of a pool that may have been written by another node or boot: makes parity
  // right where a consistency point was interrupted. `records`: stripe journal records from the
  // log; the array reads those on its disks. `generation`: of the superblock on the disks; records
  // of consistency points up to it are ignored. Writes; requires that we are fenced in.
  // If a member is not present then: it may bear a superblock of generation + 1 that no other disk
  // has, of a consistency point whose blocks will now be overwritten. So the owner first brings out
  // a superblock of a higher generation than that (not over the one in force), then calls write().
  void recover(std::uint64_t generation, std::vector<Slice> records, ports::Done<void> done);

  // Any number of blocks; neighbours on a disk that are neighbours in the list become one read.
  // Errors: io_error (a block cannot be had from any redundancy: the message names it; others are
  // filled), disconnected (too many members are away just now), reservation_conflict, cancelled.
  void read(std::vector<BlockRead> blocks, ports::Done<void> done);

  // Part of consistency point `generation`: none of the blocks was live before. Blocks of one
  // stripe that come in one call are written with one parity; a full stripe needs no read. Done: in
  // the disks' caches at least (flush makes it durable). A failed write may be given again as it
  // was. Errors: io_error or disconnected (more members are away than the group bears),
  // reservation_conflict, cancelled.
  void write(std::uint64_t generation, std::vector<BlockWrite> blocks, ports::Done<void> done);
  // Makes all writes so far durable.
  void flush(ports::Done<void> done);

  // The fixed blocks of every member in use (superblocks): written through the cache to the same
  // `block` < reserved_blocks of all of them. Done when each has it or is failed by the layout.
  // `data`: whole blocks. The owner encodes the layout inside right before the call; if it changes
  // meanwhile: Error busy, encode and try again.
  void write_everywhere(std::uint64_t block, Slice data, ports::Done<void> done);

  const Layout& layout() const;
  std::vector<MemberReport> report() const;
  const WriteFigures& write_figures() const;

  // ---- administration: all change the layout ----
  // Errors: not_found, invalid (the message says the rule), refused (the group would be lost).
  // By order: it is kept out, as the layout says, until its place is given away.
  Status fail_member(std::uint32_t member);
  Status add_spare(const Disk& disk);
  Status remove_spare(DiskId disk);
  // A failed member's place is taken by a spare, or by the disk itself that came back; rebuild
  // begins by itself. Also done unasked, when a member fails and a spare is there and
  // `automatic_spares` is on, as it is from the start.
  Status replace_member(std::uint32_t member, DiskId spare);
  void set_automatic_spares(bool on);
  // Owner::claim for an order that follows: replace_member, add_member and add_group refuse (busy)
  // a disk that is neither claimed nor the member's own. The order takes the claim, drop_claim
  // gives it up. Errors: busy (it is being claimed already), timed_out, those of the owner.
  void claim(const Disk& disk, ports::Done<void> done);
  void drop_claim(DiskId disk);
  // Spares at hand that are neither taken nor claimed, nor being claimed.
  std::vector<Disk> free_spares() const;
  // New members of a group: zeroes them first, in the background; the layout says so meanwhile, and
  // it begins anew by itself after recover(). New groups: at once. The disks may be spares.
  void add_member(std::uint16_t group, const Disk& disk, ports::Done<std::uint32_t> done);
  struct Growing {
    Joining joining;
    std::uint64_t zeroed = 0;  // blocks
  };
  std::vector<Growing> growing() const;
  Status stop_joining(DiskId disk);
  Status add_group(Protection protection, const std::vector<Disk>& disks, std::uint64_t blocks);
  // A disk is at hand (again): it becomes usable, not a member. Its id tells which.
  void disk_returned(const Disk& disk);

  // ---- background ----
  // Of the members that are rebuilding. Goes on by itself after open, as the layout says.
  Progress rebuild_progress() const;
  // Compares parity of all stripes with live blocks; repairs parity when all blocks can be read.
  // (Checksums of blocks are verified by reading them: the owner walks them.) Error: busy (one is
  // running), cancelled. `live`: instead of the owner's, if it knows better which stripes matter.
  void scrub(std::uint64_t rate, ports::Done<std::uint64_t> mismatches,
             std::function<bool(BlockAddress)> live = nullptr);
  Progress scrub_progress() const;

  // Ends everything; nothing is written after it.
  void close();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;  // operations under way hold it, too
};

}  // namespace duet::raid
