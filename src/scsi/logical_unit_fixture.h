// A logical unit with a store in memory, for tests and fuzzers: store work waits until told to be
// performed, so that a test decides what is in flight.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "scsi/logical_unit.h"
#include "scsi/slices.h"

namespace duet::scsi {

class UnitFixture {
 public:
  static constexpr std::uint64_t blocks = 1024;
  static constexpr std::uint32_t block_size = 512;

  static UnitConfig default_config();
  explicit UnitFixture(UnitConfig config = default_config(), Reservations reservations = {});

  static Nexus nexus(const std::string& name, std::uint16_t port = 1);
  // Sends a command and leaves its store work waiting.
  CommandTag send(const Nexus& nexus, std::vector<std::uint8_t> cdb,
                  std::vector<std::byte> data = {},
                  TaskAttribute attribute = TaskAttribute::simple);
  // Sends a command, performs all waiting store work, gives the answer.
  Response run(const Nexus& nexus, std::vector<std::uint8_t> cdb, std::vector<std::byte> data = {});
  // TEST UNIT READY until it is GOOD.
  void clear_attentions(const Nexus& nexus);

  // Store work. `perform` answers the oldest piece, or gives false.
  bool perform(StoreDone::Outcome outcome = StoreDone::Outcome::ok);
  void perform_all();
  void handle(Actions actions);

  std::optional<Response> answer(CommandTag tag);  // taken out
  bool aborted(CommandTag tag) const { return aborted_.contains(tag); }
  bool managed(std::uint64_t request) const { return managed_.contains(request); }
  std::size_t waiting() const { return work_.size(); }
  bool abort_asked() const { return abort_asked_; }
  void power_cycle();  // a new unit with what was persisted, as docs/formats/reservations.md says

  LogicalUnit unit;
  std::vector<std::byte> medium;
  std::vector<std::byte> persisted;  // last StoreReservations performed

 private:
  struct Work {
    StoreTag tag;
    Action action;
    bool cancelled = false;
  };
  std::deque<Work> work_;
  std::map<CommandTag, Response> answers_;
  std::map<CommandTag, bool> aborted_;
  std::map<std::uint64_t, bool> managed_;
  bool abort_asked_ = false;
  CommandTag last_tag_;
};

std::vector<std::byte> joined(const std::vector<Slice>& slices);
// Key and code of fixed sense data as 0xKKAAQQ.
std::uint32_t sense_code(const Response& response);

// CDBs and parameter lists of PERSISTENT RESERVE OUT.
std::vector<std::uint8_t> reserve_out(PersistentReserveOut::ServiceAction action,
                                      std::uint8_t type = 0, std::uint32_t length = 24);
std::vector<std::byte> reserve_list(std::uint64_t key, std::uint64_t action_key,
                                    std::uint8_t flags = 0);

inline UnitConfig UnitFixture::default_config() {
  UnitConfig config;
  config.serial = "serial-1";
  config.naa = 0x123456789abcdef;
  config.target_name = "iqn.2026-11.test:shelf";
  config.target_ports = 2;
  config.blocks = blocks;
  config.block_size = block_size;
  config.write_cache_changeable = true;
  return config;
}

inline UnitFixture::UnitFixture(UnitConfig config, Reservations reservations)
    : unit(config, std::move(reservations)), medium(config.blocks * config.block_size) {}

inline Nexus UnitFixture::nexus(const std::string& name, std::uint16_t port) {
  return {"iqn.2026-11.test:" + name, {0x80, 1, 2, 3, 4, 5}, port};
}

inline CommandTag UnitFixture::send(const Nexus& nexus, std::vector<std::uint8_t> cdb,
                                    std::vector<std::byte> data, TaskAttribute attribute) {
  last_tag_ = last_tag_.next();
  Command command;
  command.tag = last_tag_;
  command.nexus = nexus;
  command.attribute = attribute;
  std::ranges::copy(cdb, command.cdb.begin());
  if (!data.empty()) command.data_out.push_back(copy_to_slice(data));
  command.data_in_expected = 1u << 20;
  Actions actions;
  unit.on_command(std::move(command), actions);
  handle(std::move(actions));
  return last_tag_;
}

inline void UnitFixture::handle(Actions actions) {
  for (auto& action : actions) {
    if (auto* respond = std::get_if<Respond>(&action)) {
      answers_.insert_or_assign(respond->tag, std::move(respond->response));
    } else if (auto* gone = std::get_if<CommandAborted>(&action)) {
      aborted_[gone->tag] = true;
    } else if (auto* done = std::get_if<TaskManagementDone>(&action)) {
      managed_[done->request] = done->function_complete;
    } else if (auto* abort = std::get_if<StoreAbort>(&action)) {
      abort_asked_ = true;
      for (auto& work : work_)
        if (work.tag == abort->tag) work.cancelled = true;
    } else {
      const StoreTag tag = std::visit(
          [](const auto& a) {
            if constexpr (requires { StoreTag(a.tag); })
              return a.tag;
            else
              return StoreTag{};
          },
          action);
      work_.push_back({tag, std::move(action)});
    }
  }
}

inline bool UnitFixture::perform(StoreDone::Outcome outcome) {
  if (work_.empty()) return false;
  Work work = std::move(work_.front());
  work_.pop_front();
  StoreDone done{.tag = work.tag,
                 .outcome = work.cancelled ? StoreDone::Outcome::cancelled : outcome,
                 .data = {}};
  if (done.outcome == StoreDone::Outcome::ok) {
    if (auto* read = std::get_if<StoreRead>(&work.action)) {
      done.data.push_back(copy_to_slice(Bytes(medium).subspan(read->offset, read->length)));
    } else if (auto* write = std::get_if<StoreWrite>(&work.action)) {
      const auto data = joined(write->data);
      std::memcpy(&medium[write->offset], data.data(), data.size());
    } else if (auto* zero = std::get_if<StoreZero>(&work.action)) {
      std::memset(&medium[zero->offset], 0, zero->length);
    } else if (auto* state = std::get_if<StoreReservations>(&work.action)) {
      persisted = state->state;
    }
  }
  Actions actions;
  unit.on_store_done(std::move(done), actions);
  handle(std::move(actions));
  return true;
}

inline void UnitFixture::perform_all() {
  while (perform()) {
  }
}

inline Response UnitFixture::run(const Nexus& nexus, std::vector<std::uint8_t> cdb,
                                 std::vector<std::byte> data) {
  const auto tag = send(nexus, std::move(cdb), std::move(data));
  perform_all();
  auto response = answer(tag);
  ASSERT(response);
  return *response;
}

inline void UnitFixture::clear_attentions(const Nexus& nexus) {
  while (run(nexus, {0x00}).status != StatusCode::good) {
  }
}

inline std::optional<Response> UnitFixture::answer(CommandTag tag) {
  auto it = answers_.find(tag);
  if (it == answers_.end()) return std::nullopt;
  auto response = std::move(it->second);
  answers_.erase(it);
  return response;
}

inline void UnitFixture::power_cycle() {
  Reservations kept;
  if (!persisted.empty()) {
    auto parsed = Reservations::parse(persisted);
    ASSERT(parsed);
    kept = *parsed;
  }
  work_.clear();
  unit = LogicalUnit(unit.config(), kept);
}

inline std::vector<std::byte> joined(const std::vector<Slice>& slices) {
  return flatten(slices);
}

inline std::uint32_t sense_code(const Response& response) {
  if (response.sense.size() < 14) return 0;
  const auto at = [&](std::size_t i) { return std::to_integer<std::uint32_t>(response.sense[i]); };
  return (at(2) & 0xf) << 16 | at(12) << 8 | at(13);
}

inline std::vector<std::uint8_t> reserve_out(PersistentReserveOut::ServiceAction action,
                                             std::uint8_t type, std::uint32_t length) {
  return {0x5f,
          static_cast<std::uint8_t>(action),
          type,
          0,
          0,
          static_cast<std::uint8_t>(length >> 24),
          static_cast<std::uint8_t>(length >> 16),
          static_cast<std::uint8_t>(length >> 8),
          static_cast<std::uint8_t>(length)};
}

inline std::vector<std::byte> reserve_list(std::uint64_t key, std::uint64_t action_key,
                                           std::uint8_t flags) {
  std::vector<std::byte> list(24);
  store_be(&list[0], key);
  store_be(&list[8], action_key);
  list[20] = std::byte{flags};
  return list;
}

}  // namespace duet::scsi
