// What all commands share: their arguments and exit codes (docs/cli.md).
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "initialize.h"

namespace duet::cli {

enum Exit : int { done = 0, failed = 1, usage = 2, refused = 3, wait_over = 4, unreachable = 6 };

struct Arguments {
  bool json = false;
  bool follow = false;
  bool force = false;
  InitializeOptions initialize;
  bool self = false;           // takeover: please take over this node
  bool cancel = false;         // takeover
  bool no_takeover = false;    // halt
  bool uncoordinated = false;  // giveback
  std::vector<std::string> overrides;
  std::string node;      // takeover, giveback, halt, cancel, ha check
  std::string identity;  // lun
  std::string name;
  std::string size;
  std::string save_as;             // core save
  bool reserve = false;            // lun create
  std::string kind = "null";       // node panic
  bool data = false;               // pool check
  std::string lun, file;           // snapshot restore
  std::vector<std::string> names;  // of volumes, snapshots, LUNs and disks, as the verb wants
  std::string quota, reservation;  // volume limit
  bool label = false;              // disk spare
  std::uint32_t group = 0;         // pool grow
  std::string protection;          // pool grow
  double countdown_s = 30;
  double wait_s = 60;
};

// Says it on standard error, and returns the code.
int complain(int code, const std::string& what);
int failure(const Error& error);

}  // namespace duet::cli
