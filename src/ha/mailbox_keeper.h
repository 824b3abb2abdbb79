// Reads and writes the mailbox of one identity over its mailbox disks: careful writes, majorities,
// highest valid generation (docs/formats/mailbox.md). One read and one write at a time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ha/absence.h"
#include "ha/config.h"
#include "ha/output.h"

namespace duet::ha {

class MailboxKeeper {
 public:
  // Who asked; the outcome goes to them.
  enum class Purpose : std::uint8_t {
    boot,
    leftovers,
    takeover,
    giveback,
    durability,
    halt,
    status
  };

  struct Outcome {
    enum class Kind : std::uint8_t { known, unknown, written, write_failed, fenced };
    Purpose purpose{};
    Kind kind{};
    Mailbox mailbox;  // known: what was read; of a write: what was to be written
    // Every mailbox disk was read, not only a majority; of a write: every one took it.
    bool all_answered = false;
    bool kept_out = false;       // unknown because a reservation keeps us out
    bool other_version = false;  // unknown because another version wrote it
    std::string why;             // of unknown and write_failed
  };

  MailboxKeeper(ClusterId cluster, NodeId identity, std::uint8_t disks)
      : cluster_(cluster), identity_(identity), disks_(disks) {}

  // Disks that are not ours are neither read nor written; majorities are counted as before.
  void leave_out(DiskSet disks) { left_out_ = std::move(disks); }
  bool idle() const { return !reading_ && !writing_ && !outcome_; }
  bool writing() const { return writing_.has_value(); }
  // Supersedes a read under way, whose outcome never comes. Does not wait for a write: that may
  // hang until its timeout, as an aborted command does.
  void read(Purpose purpose, Output& out);
  // Requires: !writing(). Supersedes a read.
  void write(Purpose purpose, Mailbox mailbox, Output& out);
  // The write under way is out of date: nothing more of it is begun, and no outcome comes. What has
  // been sent must end before the next write (writing()).
  void abandon_write();
  // What was sent to this disk has been aborted: no answer is waited for. The write, if it has no
  // other disk, is over without an outcome.
  void on_aborted(std::uint8_t disk);
  // One above every generation read or tried so far. A mailbox disk that was left out may hold what
  // its server tried and nobody else took: far above that, so that no two writes share a
  // generation.
  std::uint64_t next_generation() const {
    bool all = left_out_.empty() || left_out_.front() >= disks_;
    return highest_generation_ + (all ? 1 : left_out_jump);
  }
  static constexpr std::uint64_t left_out_jump = 1 << 16;

  bool on_completed(const DiskCompleted& event, Output& out);
  std::optional<Outcome> take_outcome();

 private:
  struct Place {
    std::uint8_t disk;
    int copy;
  };
  struct Reading {
    Purpose purpose{};
    std::map<CommandId, Place> open;
    std::vector<Mailbox> valid;
    std::vector<bool> answered;  // by disk: one of its copies is valid
    std::vector<bool> errors;    // by disk: one of its copies could not be read
    bool kept_out = false;
    bool other_version = false;
    std::string why;
  };
  struct Writing {
    Purpose purpose{};
    Mailbox mailbox;
    std::vector<std::byte> block;
    int copy = 0;
    std::map<CommandId, Place> open;
    std::vector<std::uint8_t> took;  // disks that have the present copy
    bool fenced = false;
    bool abandoned = false;
    std::string why;
  };

  std::size_t majority() const { return disks_ / 2u + 1u; }
  // So many disks that one of them has every completed write.
  std::size_t enough_to_read() const { return disks_ + 1u - majority(); }
  void on_read(const Place& place, const Result<DiskReply>& reply);
  void finish_read();
  void write_copy(const std::vector<std::uint8_t>& disks, Output& out);
  void finish_copy(Output& out);

  ClusterId cluster_;
  NodeId identity_;
  std::uint8_t disks_;
  DiskSet left_out_;
  std::uint64_t highest_generation_ = 0;
  std::optional<Reading> reading_;
  std::optional<Writing> writing_;
  std::optional<Outcome> outcome_;
};

}  // namespace duet::ha
