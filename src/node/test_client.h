// For tests: an iSCSI initiator on a fake network: one session, one command after the other.
#pragma once

#include <deque>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "iscsi/test_initiator.h"
#include "simulation/fake_network.h"
#include "simulation/scheduler.h"

namespace duet::node {

class TestClient {
 public:
  struct Answer {
    std::uint8_t status = 0;
    std::string data;
    bool good() const { return status == 0; }
    bool busy() const { return status == 8; }
  };

  TestClient(simulation::SimulatedScheduler& scheduler, simulation::FakeNetwork& network,
             const std::string& address, std::uint32_t number = 0)
      : scheduler_(scheduler), connection_(network.connect(address, 3260)) {
    if (!connection_) return;
    auto names = iscsi::testing::text({"InitiatorName=iqn.2026-11.com.example:host",
                                       "TargetName=iqn.2026-11.org.duet:red", "SessionType=Normal",
                                       "InitialR2T=No", "ImmediateData=Yes"});
    // `number` makes the ISID: a session of its own.
    connection_->client_send(
        iscsi::testing::Wire::login(0x87, names).u32(10, 0x34560000 + number).bytes());
    scheduler_.run_for(milliseconds(1));
    auto answers = iscsi::testing::parse_answers(connection_->client_take());
    logged_in_ = answers.size() == 1 && answers[0].opcode() == 0x23 && answers[0].u16(36) == 0;
    while (logged_in_ && !ask({0x00}).good()) {
      if (++attentions_ > 5) logged_in_ = false;  // TEST UNIT READY until attentions are told
    }
  }

  bool logged_in() const { return logged_in_; }
  bool closed() const { return connection_->closed(); }

  // Blocks of 512 bytes. Without an answer in `patience`: nothing; it may come later.
  std::optional<Answer> write(std::uint32_t block, char c, std::uint16_t blocks = 8) {
    start(cdb(0x2a, block, blocks), iscsi::testing::write_flag, std::string(blocks * 512u, c));
    return answer();
  }
  std::optional<Answer> read(std::uint32_t block, std::uint16_t blocks = 8) {
    start_read(block, blocks);
    return answer();
  }
  void start_read(std::uint32_t block, std::uint16_t blocks = 8) {
    start(cdb(0x28, block, blocks), iscsi::testing::read_flag, {}, blocks * 512u);
  }
  void start_write(std::uint32_t block, char c, std::uint16_t blocks = 8) {
    start(cdb(0x2a, block, blocks), iscsi::testing::write_flag, std::string(blocks * 512u, c));
  }
  // One block: `expected` all over becomes `c`.
  void start_compare_and_write(std::uint32_t block, char expected, char c) {
    std::string command(16, '\0');
    command[0] = static_cast<char>(0x89);
    for (int i = 0; i < 4; ++i) {
      command[static_cast<std::size_t>(6 + i)] = static_cast<char>(block >> (24 - 8 * i));
    }
    command[13] = 1;
    start(command, iscsi::testing::write_flag, std::string(512, expected) + std::string(512, c));
  }
  // The command alone; its data would be sent when the target asks for it.
  void start_write_without_data(std::uint32_t block, std::uint16_t blocks) {
    start(cdb(0x2a, block, blocks), iscsi::testing::write_flag, {}, blocks * 512u);
  }
  std::size_t transfers_asked_for() {
    take_all();
    return transfers_;
  }
  std::uint32_t last_task() const { return last_task_; }
  // Asynchronous messages so far: their events (RFC 7143 11.9.1).
  const std::vector<std::uint8_t>& events() {
    take_all();
    return events_;
  }
  // The next one.
  std::optional<Answer> answer() {
    std::optional<Answer> found;
    scheduler_.run_until([&] { return (found = take()).has_value() || closed(); }, patience);
    return found ? found : take();
  }

  Duration patience = milliseconds(500);
  unsigned lun = 0;

 private:
  static std::string cdb(int opcode, std::uint32_t block, std::uint16_t blocks) {
    std::string c(10, '\0');
    c[0] = static_cast<char>(opcode);
    for (int i = 0; i < 4; ++i) {
      c[static_cast<std::size_t>(2 + i)] = static_cast<char>(block >> (24 - 8 * i));
    }
    c[7] = static_cast<char>(blocks >> 8);
    c[8] = static_cast<char>(blocks);
    return c;
  }
  Answer ask(std::initializer_list<char> command) {
    start(std::string(command), 0, {});
    return answer().value_or(Answer{255, {}});
  }
  void start(const std::string& command, std::uint8_t direction, const std::string& data,
             std::size_t expected = 0) {
    iscsi::testing::Pdu pdu(0x01, iscsi::testing::final_flag | direction);
    pdu.lun(lun).itt(++last_task_).cmd_sn(next_command_++);
    pdu.u32(20, static_cast<std::uint32_t>(data.empty() ? expected : data.size()));
    for (std::size_t i = 0; i < command.size(); ++i) {
      pdu.u8(32 + i, static_cast<std::uint8_t>(command[i]));
    }
    if (!data.empty()) pdu.data(data);
    connection_->client_send(pdu.bytes());
  }
  std::optional<Answer> take() {
    take_all();
    if (answers_.empty()) return {};
    auto first = std::move(answers_.front());
    answers_.pop_front();
    return first;
  }
  void take_all() {
    for (auto& unit : iscsi::testing::parse_answers(connection_->client_take())) {
      if (unit.opcode() == 0x31) ++transfers_;
      if (unit.opcode() == 0x32) events_.push_back(unit.u8(36));
      if (unit.opcode() == 0x25) data_ += unit.data;
      bool status = unit.opcode() == 0x21 || (unit.opcode() == 0x25 && (unit.u8(1) & 1) != 0);
      if (status) answers_.push_back(Answer{unit.u8(3), std::exchange(data_, {})});
    }
  }

  simulation::SimulatedScheduler& scheduler_;
  std::shared_ptr<simulation::FakeConnection> connection_;
  bool logged_in_ = false;
  int attentions_ = 0;
  std::uint32_t next_command_ = 100;
  std::uint32_t last_task_ = 1000;
  std::string data_;
  std::deque<Answer> answers_;
  std::vector<std::uint8_t> events_;
  std::size_t transfers_ = 0;
};

}  // namespace duet::node
