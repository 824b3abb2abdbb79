// An iSCSI initiator for tests, over libiscsi: raw CDBs in, status, sense and data out. One object
// is one session, so one I_T nexus. Everything blocks for at most `limit`.
#pragma once

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace duet::testing {

struct Answer {
  int status = -1;          // SCSI status; -1: none came (aborted, or the connection broke)
  std::uint32_t sense = 0;  // 0xKKAAQQ
  std::vector<std::uint8_t> data;
  bool good() const { return status == SCSI_STATUS_GOOD; }
  bool conflict() const { return status == SCSI_STATUS_RESERVATION_CONFLICT; }
};

class Initiator {
 public:
  static constexpr std::chrono::seconds limit{20};

  // Logs in to LUN 0 of `iqn` at `portal`. `isid`: the qualifier of a random-format ISID.
  Initiator(const std::string& portal, const std::string& iqn, std::string name, unsigned isid = 1);
  ~Initiator();
  Initiator(const Initiator&) = delete;
  Initiator& operator=(const Initiator&) = delete;

  Answer run(std::vector<std::uint8_t> cdb, std::vector<std::uint8_t> out = {},
             std::chrono::milliseconds wait = limit);
  // A command that is left under way; `finish` waits for its answer.
  class Pending;
  Pending* start(std::vector<std::uint8_t> cdb, std::vector<std::uint8_t> out = {});
  Answer finish(Pending* pending, std::chrono::milliseconds wait = limit);

  Answer test_unit_ready() { return run({0x00}); }
  void clear_attentions();
  Answer write(std::uint8_t value, std::uint8_t flags = 0);  // block 0
  int read();                                                // first byte of block 0; -1: refused
  // PERSISTENT RESERVE OUT; `flags`: 1 APTPL, 4 ALL_TG_PT.
  Answer reserve_out(std::uint8_t action, std::uint8_t type, std::uint64_t key,
                     std::uint64_t action_key = 0, std::uint8_t flags = 0);
  std::vector<std::uint64_t> keys();
  Answer reserve_in(std::uint8_t action);

 private:
  void serve(Pending& pending, std::chrono::milliseconds wait);
  iscsi_context* iscsi_;
  std::vector<Pending*> pending_;
};

class Initiator::Pending {
 public:
  bool done = false;
  Answer answer;
  std::vector<std::uint8_t> out;
  scsi_task* task = nullptr;
};

}  // namespace duet::testing
