// The iSCSI session of a simulated initiator (RFC 7143, error recovery level 0, one connection):
// login, numbering, data transfer, pings, logout. What to send, and again, is for its owner
// (client.h), who is told of every end and keeps all commands.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "scsi/logical_unit_io.h"
#include "scsi/sense.h"
#include "simulator/sim_network.h"

namespace duet::simulator {

class ClientSession final : private ClientStream::Handler {
 public:
  struct Target {
    std::string address;
    std::uint16_t port = 3260;
    std::string name;
  };
  struct Initiator {
    std::string name;
    std::array<std::uint8_t, 6> isid{};
    bool immediate_data = true;      // else every write waits for R2T
    Duration patience = seconds(5);  // without a byte: ping; twice as long: the session is lost
  };
  struct Answer {
    scsi::StatusCode status = scsi::StatusCode::good;
    std::optional<scsi::Sense> sense;  // with check_condition
    std::vector<std::byte> data;
  };
  struct Request {
    std::uint16_t lun = 0;
    std::vector<std::uint8_t> cdb;
    std::vector<std::byte> data_out;
    std::uint32_t data_in = 0;  // bytes expected
  };
  enum class End : std::uint8_t {
    refused,     // nobody there, or a login status that asks to come back
    forbidden,   // a login status that a real initiator takes for permanent
    lost,        // reset, silence, or the target broke the protocol
    logged_out,  // as it was asked to
  };
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void on_ready() = 0;
    virtual void on_answer(std::uint32_t tag, Answer&& answer) = 0;
    // Commands that were not answered never will be. `wait`: what the target asked for.
    virtual void on_end(End end, const std::string& why, Duration wait) = 0;
    virtual void on_logout_requested(Duration within) = 0;
  };

  ClientSession(ports::Scheduler& scheduler, ClientNetwork& network, Target target,
                Initiator initiator, Owner& owner);
  ~ClientSession() override;

  void open();  // requires: closed
  bool ready() const { return state_ == State::ready; }
  bool closed() const { return state_ == State::closed; }
  // A command may be sent now (MaxCmdSN).
  bool window_open() const {
    return ready() && static_cast<std::int32_t>(max_cmd_sn_ - cmd_sn_) >= 0;
  }
  // Requires: window_open().
  std::uint32_t send(Request request);
  void log_out();  // on_end(logged_out) follows
  void drop();     // on_end(lost) is not called
  std::size_t outstanding() const { return commands_.size(); }
  NodeId server_node() const { return stream_ ? stream_->server_node() : no_node; }

 private:
  enum class State : std::uint8_t { closed, connecting, login, ready, logout };
  struct Command {
    Request request;
    std::vector<std::byte> data_in;
  };
  struct Unit;  // a protocol data unit of the target

  // ClientStream::Handler
  void on_open() override;
  void on_received(Bytes bytes) override;
  void on_closed() override;

  void on_unit(const Unit& unit);
  void on_login(const Unit& unit);
  void on_data_in(const Unit& unit);
  void on_response(const Unit& unit);
  void on_ready_to_transfer(const Unit& unit);
  void on_ping(const Unit& unit);
  void on_async(const Unit& unit);
  void finish(std::uint32_t tag, scsi::StatusCode status, Bytes sense_segment);
  void end(End end, const std::string& why, Duration wait = {});
  void watch();
  void look_for_silence();

  ports::Scheduler& scheduler_;
  ClientNetwork& network_;
  Target target_;
  Initiator initiator_;
  Owner& owner_;
  State state_ = State::closed;
  std::shared_ptr<ClientStream> stream_;
  std::vector<std::byte> in_;
  std::uint32_t cmd_sn_ = 1, max_cmd_sn_ = 0, exp_stat_sn_ = 0;
  std::uint32_t last_tag_ = 0;
  std::unordered_map<std::uint32_t, Command> commands_;
  Instant heard_{};
  bool pinged_ = false;
  ports::TimerId silence_timer_{};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::simulator
