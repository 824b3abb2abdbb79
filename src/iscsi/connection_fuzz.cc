// A whole connection under a hostile initiator. Units are half random and half led: numbers and
// tags that must fit mostly do, so that the run gets past the first checks. Units of the target
// must stay well-formed and what it holds must stay within its bounds.
#include <algorithm>
#include <deque>

#include "iscsi/test_initiator.h"

using namespace duet;
using namespace duet::iscsi;
using namespace duet::iscsi::testing;

namespace {

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : rest_(data, size) {}
  std::uint8_t byte() {
    if (rest_.empty()) return 0;
    auto b = rest_[0];
    rest_ = rest_.subspan(1);
    return b;
  }
  std::string string(std::size_t n) {
    n = std::min(n, rest_.size());
    std::string s(reinterpret_cast<const char*>(rest_.data()), n);
    rest_ = rest_.subspan(n);
    return s;
  }
  bool empty() const { return rest_.empty(); }

 private:
  std::span<const std::uint8_t> rest_;
};

class Run {
 public:
  Run(const std::uint8_t* data, std::size_t size) : in_(data, size), wire_((in_.byte() & 1) == 0) {}

  void go() {
    while (!in_.empty() && wire_.connection.phase() != Connection::Phase::closed) {
      std::uint8_t op = in_.byte();
      switch (op % 9) {
        case 8:
          hold(op);
          break;
        case 0:
          raw();
          break;
        case 1:
          unit_answers();
          break;
        case 2:
          tick(op);
          break;
        default:
          unit(op);
          break;
      }
      settle();
    }
    wire_.connection.on_transport_closed();
    while (!commands_.empty()) unit_answers();
    ASSERT(wire_.connection.commands_at_unit() == 0);
  }

 private:
  void raw() {
    auto s = in_.string(in_.byte());
    auto bytes = std::as_bytes(std::span(s));
    wire_.receive(std::vector<std::byte>(bytes.begin(), bytes.end()));
  }

  void unit(std::uint8_t op) {
    static constexpr std::uint8_t opcodes[] = {0x01, 0x05, 0x41, 0x42, 0x40, 0x04, 0x46, 0x43};
    std::uint8_t how = in_.byte();
    Pdu pdu(opcodes[op / 8 % 8], in_.byte());
    pdu.itt(how % 8).cmd_sn(wire_.connection.session().exp_cmd_sn +
                            (how >= 0xf0 ? how - 0xf0u : 0));
    pdu.u8(9, in_.byte() % 4).u8(22, in_.byte()).u8(23, in_.byte());
    if (pdu.bytes()[0] == std::byte{0x05}) {
      std::uint8_t which = in_.byte();
      pdu.u32(20, r2ts_.empty() || which < 64 ? reserved_tag : r2ts_[which % r2ts_.size()]);
      pdu.u8(39, in_.byte() % 4).u8(42, in_.byte()).u8(43, in_.byte());
    }
    if (how & 8) pdu.u8(20, in_.byte());
    wire_.receive(pdu.data(in_.string(in_.byte())));
  }

  void unit_answers() {
    if (commands_.empty()) return;
    std::size_t which = in_.byte() % commands_.size();
    auto command = std::move(commands_[which]);
    commands_.erase(commands_.begin() + static_cast<long>(which));
    std::uint8_t how = in_.byte();
    if (how % 4 == 0) {
      wire_.connection.on_aborted(command.command.tag, wire_.actions);
      return;
    }
    scsi::Response response;
    response.data_in.push_back(make_buffer(std::size_t{how} * 100).slice());
    response.data_out_wanted = in_.byte() * 16u;
    if (how % 4 == 1) {
      response.status = scsi::StatusCode::check_condition;
      response.sense.resize(18);
    }
    wire_.respond(command, std::move(response));
  }

  void hold(std::uint8_t op) {
    if (op & 0x20) return wire_.connection.hold();
    auto waiting = wire_.connection.waiting_requests();
    ASSERT(waiting.size() <= TaskTable::capacity);
    for (const auto& request : waiting) {
      ASSERT(decode_stored_request(encode(request)).value() == request);
    }
    wire_.connection.resume(wire_.actions);
  }

  void tick(std::uint8_t op) {
    wire_.now += seconds(op / 8);
    wire_.connection.on_tick(wire_.now, wire_.actions);
  }

  void settle() {
    for (const auto& answer : wire_.answers()) {  // parses, or asserts
      if (answer.opcode() == 0x31) r2ts_.push_back(answer.u32(20));
      if (r2ts_.size() > 8) r2ts_.pop_front();
    }
    for (auto& order : wire_.orders()) {
      if (auto* submit = std::get_if<SubmitCommand>(&order)) {
        std::size_t size = 0;
        for (const auto& slice : submit->command.data_out) size += slice.bytes.size();
        ASSERT(size <= max_command_data_out);
        commands_.push_back(std::move(*submit));
      } else if (auto* manage = std::get_if<ManageTasks>(&order)) {
        wire_.connection.on_task_management_done(
            manage->request, TaskManagementResult::function_complete, wire_.actions);
      } else if (std::holds_alternative<AdmitSession>(order)) {
        wire_.admit();
      }
    }
    ASSERT(commands_.size() == wire_.connection.commands_at_unit());
    ASSERT(commands_.size() <= TaskTable::capacity);
  }

  Input in_;
  Wire wire_;
  std::deque<SubmitCommand> commands_;
  std::deque<std::uint32_t> r2ts_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  Run(data, size).go();
  return 0;
}
