#include "iscsi/task.h"

#include <algorithm>

namespace duet::iscsi {

TaskTable::TaskTable() : tasks_(capacity) {
  for (std::size_t i = capacity; i-- > 0;) free_.push_back(static_cast<std::uint8_t>(i));
}

Task* TaskTable::add(std::uint32_t initiator_task_tag) {
  if (free_.empty()) return nullptr;
  std::size_t slot = free_.back();
  free_.pop_back();
  Task& task = tasks_[slot];
  task.state = Task::State::collecting;
  task.serial = ++last_serial_;
  task.initiator_task_tag = initiator_task_tag;
  initiator_tags_[slot] = initiator_task_tag;
  return &task;
}

void TaskTable::remove(Task& task) {
  ASSERT(task.state != Task::State::free);
  auto slot = static_cast<std::size_t>(&task - tasks_.data());
  task = Task();
  free_.push_back(static_cast<std::uint8_t>(slot));
}

Task* TaskTable::find_by_initiator_tag(std::uint32_t initiator_task_tag) {
  if (size() == 0) return nullptr;
  for (std::size_t slot = 0; slot < capacity; ++slot) {
    if (initiator_tags_[slot] == initiator_task_tag && tasks_[slot].state != Task::State::free) {
      return &tasks_[slot];
    }
  }
  return nullptr;
}

Task* TaskTable::find_by_tag(std::uint32_t tag) {
  std::size_t slot = tag & 0xff;
  if (slot >= capacity || tasks_[slot].state == Task::State::free) return nullptr;
  return tag_of(tasks_[slot]) == tag ? &tasks_[slot] : nullptr;
}

std::uint32_t TaskTable::tag_of(const Task& task) const {
  return task.serial << 8 | static_cast<std::uint32_t>(&task - tasks_.data());
}

}  // namespace duet::iscsi
