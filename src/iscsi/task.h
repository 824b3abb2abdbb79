// Commands of a session from their arrival to their answer.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/ids.h"
#include "iscsi/limits.h"
#include "iscsi/pdu.h"
#include "scsi/logical_unit_io.h"

namespace duet::iscsi {

// A stretch of data-out that the initiator was told to send.
struct ReadyStretch {
  std::uint32_t target_transfer_tag = 0;
  std::uint32_t next_offset = 0;
  std::uint32_t end = 0;
  std::uint32_t data_sn = 0;  // expected next
};

//   collecting ──all data-out here──► ready ──no ORDERED task in the way──► at_unit ──► answered
//       └──data wrong──► failing ──initiator has sent all it was asked for──► answered
struct Task {
  enum class State : std::uint8_t { free, collecting, failing, ready, at_unit };

  State state = State::free;
  bool immediate = false;
  std::uint32_t serial = 0;  // order of arrival, and part of the tag
  std::uint32_t initiator_task_tag = 0;
  std::optional<LunNumber> lun;
  std::uint64_t lun_field = 0;
  scsi::TaskAttribute attribute = scsi::TaskAttribute::simple;
  std::array<std::uint8_t, 16> cdb{};
  bool read = false;
  bool write = false;
  std::uint32_t out_expected = 0;
  std::uint32_t in_expected = 0;

  std::vector<Slice> data;
  std::uint32_t collected = 0;
  bool unsolicited_open = false;  // more unsolicited Data-Out follows
  std::uint32_t unsolicited_data_sn = 0;
  std::uint32_t requested = 0;  // end of what R2Ts asked for
  std::uint32_t r2t_sn = 0;
  bool awaits_budget = false;
  std::uint64_t budget = 0;  // solicited bytes it was granted
  std::vector<ReadyStretch> stretches;
  scsi::Response failure;  // while failing
};

// A fixed number of slots. Tags are 32 bits: slot in the low byte, then the serial, so that an old
// tag never finds a new task within 2^24 commands.
class TaskTable {
 public:
  static constexpr std::size_t capacity = command_window + max_immediate_commands;
  static_assert(capacity <= 256);

  TaskTable();
  // Null when all slots are taken.
  Task* add(std::uint32_t initiator_task_tag);
  void remove(Task& task);
  Task* find_by_initiator_tag(std::uint32_t initiator_task_tag);
  Task* find_by_tag(std::uint32_t tag);
  std::uint32_t tag_of(const Task& task) const;

  // Calls `visit` for each task; it may remove that task.
  template <class Visit>
  void for_each(Visit visit) {
    for (auto& task : tasks_) {
      if (task.state != Task::State::free) visit(task);
    }
  }
  std::size_t size() const { return capacity - free_.size(); }

 private:
  std::vector<Task> tasks_;
  std::array<std::uint32_t, capacity> initiator_tags_{};  // of the slots, for the search
  std::vector<std::uint8_t> free_;
  std::uint32_t last_serial_ = 0;
};

}  // namespace duet::iscsi
