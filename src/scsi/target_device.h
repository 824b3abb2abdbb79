// A SCSI target device: logical units by number, and what is asked of the device itself: REPORT
// LUNS, INQUIRY and REQUEST SENSE at numbers that have no unit (SPC-4 6.4.1, SAM-5 5.11).
#pragma once

#include <map>
#include <memory>

#include "base/ids.h"
#include "scsi/logical_unit.h"

namespace duet::scsi {

inline constexpr std::uint16_t max_lun = 16383;  // flat and peripheral addressing, SAM-5 4.6

// The 8-byte LUN field: peripheral (< 256) or flat space addressing; nothing else is decoded.
std::optional<LunNumber> decode_lun(std::uint64_t field);
std::uint64_t encode_lun(LunNumber lun);

class TargetDevice {
 public:
  // REPORTED LUNS DATA HAS CHANGED for everyone at the other units.
  void add(LunNumber lun, LogicalUnit unit);
  // The unit and its unfinished commands are gone: the caller answers for those.
  void remove(LunNumber lun);
  LogicalUnit* find(LunNumber lun);
  std::vector<LunNumber> luns() const;

  // Store actions that come out belong to unit `lun`.
  void on_command(std::optional<LunNumber> lun, Command&& command, Actions& actions);
  void on_nexus_new(const Nexus& nexus);

 private:
  Response report_luns(const Command& command, const ReportLuns& request);
  std::map<LunNumber, LogicalUnit> units_;
};

}  // namespace duet::scsi
