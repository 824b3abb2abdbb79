// A simulated initiator: keeps up to `depth` commands under way at the target of one identity,
// retries each until it has an answer as libiscsi and open-iscsi do (same data, new session if need
// be), and tells the history and the reservation models what it saw. Everything from its seed.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "simulation/random.h"
#include "simulator/client_session.h"
#include "simulator/history.h"
#include "simulator/reservation_model.h"

namespace duet::simulator {

// A LUN that the clients of an identity share.
struct SharedLun {
  NodeId identity;
  std::uint16_t number = 0;
  std::uint64_t blocks = 0;                        // logical blocks of block_size
  std::unique_ptr<ReservationModel> reservations;  // null: nobody reserves it
};

class Client final : private ClientSession::Owner {
 public:
  static constexpr Duration shortest_wait = milliseconds(20);  // before a retry; doubled up to
  static constexpr Duration longest_wait = milliseconds(1000);
  // Conflicts happen where few blocks are used: this many at the beginning, the middle and the end
  // of a LUN; the last ones of the beginning are for COMPARE AND WRITE.
  static constexpr std::uint64_t zone_blocks = 128;
  static constexpr std::uint64_t swap_blocks = 8;
  static constexpr std::uint32_t write_blocks_max =
      48;  // what the smallest log takes as one record

  struct Options {
    std::uint16_t number = 0;  // unique in the world
    std::uint64_t seed = 1;
    NodeId identity;
    unsigned depth = 4;                  // commands under way
    Duration pause = milliseconds(200);  // mean, between two commands of the same slot
    bool immediate_data = true;
    bool leaves_in_order = true;           // completes and logs out when asked to; else drops
    Duration patience = seconds(4);        // with silence
    Duration command_limit = seconds(15);  // for one answer; then the session is dropped
    ClientSession::Target target;
    // Asked when a LUN that we were given is not there any more: whether that is right.
    std::function<bool()> lun_may_be_gone = [] { return false; };
  };
  struct Counters {
    std::uint64_t good = 0, sessions = 0, retries = 0, busy = 0, not_ready = 0, errors = 0,
                  attentions = 0, conflicts = 0, mismatches = 0, logouts_asked = 0;
  };
  using Violate = std::function<void(const std::string& invariant, std::string what)>;

  // `luns` outlive us.
  Client(ports::Scheduler& scheduler, ClientNetwork& network, History& history,
         const std::vector<std::unique_ptr<SharedLun>>& luns, Options options, Violate violate);
  ~Client() override;

  std::function<void(const BlockRange&, Stamp)> on_acknowledged;  // a write was; may be null

  void start();
  void stop();   // nothing new; what is under way is retried until answered
  void sweep();  // after stop(): reads all that was ever used, once
  bool quiet() const { return under_way_ == 0; }
  // What it waits for, for people; empty: nothing.
  std::string waits_for() const;

  const Options& options() const { return options_; }
  const Counters& counters() const { return counters_; }
  Instant last_good() const { return last_good_; }  // when a read or write was answered GOOD
  NodeId server_node() const { return session_.server_node(); }
  bool ready() const { return session_.ready(); }

 private:
  enum class Kind : std::uint8_t {
    test_ready,
    serial,
    read,
    write,
    zero,  // UNMAP or WRITE SAME
    compare_and_write,
    flush,
    reserve_out,
    reserve_in,
  };
  struct Command {
    Kind kind = Kind::test_ready;
    SharedLun* lun = nullptr;
    bool of_slot = false;  // another one follows
    BlockRange range;
    Stamp value = 0;
    std::vector<Stamp> expected;
    scsi::ReservationRequest reservation;
    scsi::PersistentReserveIn::ServiceAction report{};
    ClientSession::Request request;
    std::optional<AttemptId> attempt;  // on its way
    std::uint64_t perhaps_in = 0;      // session of an attempt that may still take effect
    ReservationModel::Version since = 0;
    unsigned failures = 0;
    Instant sent_at{};
  };
  using CommandPtr = std::shared_ptr<Command>;

  // ClientSession::Owner
  void on_ready() override;
  void on_answer(std::uint32_t tag, ClientSession::Answer&& answer) override;
  void on_end(ClientSession::End end, const std::string& why, Duration wait) override;
  void on_logout_requested(Duration within) override;

  // client.cc
  void after(Duration wait, std::function<void()> what);
  void rest(bool stagger);
  void pump();
  void send(const CommandPtr& command);
  void retry(const CommandPtr& command, Duration wait);
  Duration back_off(Command& command);
  void finished(const CommandPtr& command);
  void leave();
  void reconnect(Duration wait);
  void watch_commands();

  // client_answers.cc
  void judge(const CommandPtr& command, const ClientSession::Answer& answer);
  void good(const CommandPtr& command, const ClientSession::Answer& answer);
  void conflict(const CommandPtr& command);
  void check_condition(const CommandPtr& command, const scsi::Sense& sense);
  void untouched(Command& command);  // the attempt had no effect
  void uncertain(Command& command);  // it may have one until the next login
  std::string name(const Command& command) const;

  // client_commands.cc
  CommandPtr choose();
  CommandPtr make(Kind kind, SharedLun& lun);
  CommandPtr read(SharedLun& lun, std::uint64_t first, std::uint32_t count);
  CommandPtr write(SharedLun& lun, std::uint64_t first, std::uint32_t count);
  CommandPtr zero(SharedLun& lun, std::uint64_t first, std::uint32_t count);
  CommandPtr compare_and_write(SharedLun& lun);
  CommandPtr flush(SharedLun& lun);
  CommandPtr reserve_out(SharedLun& lun);
  CommandPtr reserve_in(SharedLun& lun);
  CommandPtr serial(SharedLun& lun);
  std::uint64_t zone_start(const SharedLun& lun, std::uint64_t zone) const;

  ports::Scheduler& scheduler_;
  History& history_;
  const std::vector<std::unique_ptr<SharedLun>>& luns_;
  Options options_;
  Violate violate_;
  simulation::Random random_;
  scsi::Nexus nexus_;
  ClientSession session_;
  bool stopped_ = false;
  bool leaving_ = false;
  unsigned under_way_ = 0;  // commands that have no answer yet
  std::deque<CommandPtr> to_send_;
  std::map<std::uint32_t, CommandPtr> sent_;  // by tag
  std::vector<AttemptId> perhaps_;            // may take effect until the next login
  std::map<std::pair<std::uint16_t, std::uint64_t>, Stamp> seen_;  // LUN, block: for comparing
  std::map<std::uint16_t, std::vector<std::byte>> serials_;
  Duration connect_wait_ = shortest_wait;
  Counters counters_;
  Instant last_good_{};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::simulator
