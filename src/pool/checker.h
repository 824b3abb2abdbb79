// Is everything in the pool that should be, once, and nothing else? Read-only; of one superblock,
// while the pool goes on: what that superblock refers to stays until the check ends. Reads with a
// bounded rate, so that who is served hardly notices.
//
// What it verifies, and what memory it takes: docs/protocols/consistency_point.md, "Checking".
// Single-threaded, like the pool.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "filesystem/view.h"
#include "pool/pool.h"

namespace duet::pool {

struct CheckReport {
  Generation generation = 0;          // of the superblock
  std::vector<std::string> problems;  // sentences that name the object; the first problems_max
  std::uint64_t problem_count = 0;
  std::uint64_t blocks = 0;      // that are referred to
  std::uint64_t files = 0;       // in live volumes
  std::uint64_t bytes_read = 0;  // from the disks
  std::uint64_t mismatches = 0;  // stripes whose parity was wrong, and was repaired
  bool clean() const { return problem_count == 0; }
};

class Checker {
 public:
  // Some names of a directory, and what they are of, from a place on: 0, or `next` of the call
  // before. Runs again when something was missing, as operations do (View). An error other than
  // busy: the directory is damaged. Without . and .. .
  struct Names {
    std::vector<std::pair<std::string, InodeNumber>> names;
    std::uint64_t next = 0;
    bool end = false;  // there are no more
  };
  using ReadDirectory =
      std::function<Result<Names>(filesystem::View&, FileKey directory, std::uint64_t from)>;
  struct Options {
    std::uint64_t rate = 64ull << 20;  // bytes per second; 0: as fast as the disks
    bool data = false;                 // reads the data of all files, too
    bool parity = false;               // compares parity (Array::scrub), which repairs it
    ReadDirectory read_directory;      // empty: directories and link counts are not looked at
  };
  static constexpr std::size_t problems_max = 1000;   // kept; the others are only counted
  static constexpr std::size_t blocks_per_read = 64;  // in one call of the array
  static constexpr int read_attempts = 10;            // while disks are away
  static constexpr Duration read_again_after = milliseconds(200);

  // `pool`: outlives the checker, or is closed before it goes.
  Checker(ports::Scheduler& scheduler, Pool& pool, Options options);
  ~Checker();  // as cancel()
  Checker(const Checker&) = delete;
  Checker& operator=(const Checker&) = delete;

  // Once. Errors: refused (the pool is not open), no_space (the pool needs the room that the check
  // keeps it from using again), cancelled, those of the disks (too many are away).
  void start(ports::Done<CheckReport> done);
  void cancel();

  struct Progress {
    bool running = false;
    std::uint64_t done = 0;   // blocks found
    std::uint64_t total = 0;  // blocks in use
  };
  Progress progress() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace duet::pool
