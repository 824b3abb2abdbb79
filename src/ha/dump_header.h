// The coredump header of one disk that is ours, behind its fence: read, and marked where that is
// needed. Both copies, in order; each step is durable before the next. What is damaged, foreign or
// not there is left alone: it is not active (docs/protocols/coredump.md, C5, C6).
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "coredump/header.h"
#include "ha/output.h"

namespace duet::ha {

class DumpHeader {
 public:
  enum class Outcome : std::uint8_t { running, done, failed };
  struct Rules {
    ClusterId cluster;
    DiskId disk;
    bool drop = false;  // inactive, whatever it says; else active becomes aborted
    coredump::AbortReason why = coredump::AbortReason::process_gone;
  };

  DumpHeader(DiskRef disk, Rules rules) : disk_(disk), rules_(rules) {}
  void start(Output& out);
  // False: not our command.
  bool on_completed(const DiskCompleted& event, Output& out);
  Outcome outcome() const { return outcome_; }
  // Done: as it is on the disk now; nothing: no header of this disk.
  const std::optional<coredump::Header>& header() const { return header_; }

 private:
  void settle(Output& out);

  DiskRef disk_;
  Rules rules_;
  std::array<std::optional<CommandId>, coredump::header_copies> reads_;
  std::array<std::optional<std::vector<std::byte>>, coredump::header_copies> copies_;
  std::optional<coredump::Header> header_;
  std::vector<std::byte> block_;  // to be written
  int writing_ = 0;               // which copy
  std::optional<CommandId> write_;
  Outcome outcome_ = Outcome::running;
};

// Of the header as it was read, a copy that could not be read being nothing.
Result<coredump::Header> header_of(
    const std::array<std::optional<std::vector<std::byte>>, coredump::header_copies>& copies);

}  // namespace duet::ha
