// Shared disks. A SimUnit is a disk of a shelf: the SCSI logical unit that ships with duet-shelf
// (command set, persistent reservations, task set, unit attentions) over a medium in memory. A
// SimDisk is one process' nexus to it, with the timeouts, repetitions and verdicts of the iSCSI
// disk of a real node.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "disk/areas.h"
#include "ha/mailbox.h"
#include "initiator/scsi_verdict.h"
#include "ports/disk.h"
#include "scsi/logical_unit.h"
#include "simulator/sabotage.h"
#include "simulator/sim_scheduler.h"

namespace duet::simulator {

class SimDisk;

class SimUnit {
 public:
  struct Options {
    std::string name;
    NodeId owner;  // home node of its identity
    std::uint8_t index = 0;
    std::uint64_t size = 8u << 20;
    std::uint32_t block_size = 512;
    bool write_cache = false;
    disk::Area pool_metadata;  // superblocks and tables of the pool
    std::uint64_t seed = 1;
  };
  // `shelf` runs the unit. `sabotage` outlives it.
  SimUnit(Process& shelf, const Sabotage& sabotage, Options options);
  ~SimUnit();
  SimUnit(const SimUnit&) = delete;
  SimUnit& operator=(const SimUnit&) = delete;

  // ---- what checkers see ----
  const Options& options() const { return options_; }
  bool powered() const { return powered_; }
  const scsi::Reservations& reservations() const { return unit_->reservations(); }
  // What a read would give now, and what would be left after a power loss.
  std::vector<std::byte> peek(std::uint64_t offset, std::uint64_t size) const;
  void peek(std::uint64_t offset, MutableBytes into) const;
  // Grow when a copy of the mailbox, the metadata of the pool, may have become another.
  std::uint64_t mailbox_changes() const { return mailbox_changes_; }
  std::uint64_t pool_changes() const { return pool_changes_; }
  Bytes stable() const { return {bytes_.get(), options_.size}; }
  // A write reaches the medium (or its cache): by which nexus; after its reservation check.
  struct Landed {
    const scsi::Nexus& nexus;
    std::uint64_t offset;
    Bytes bytes;
    bool aborting;  // on its way out: PREEMPT AND ABORT, say, is not answered before it has ended
  };
  std::function<void(const SimUnit&, const Landed&)> on_landed;
  // A process of a node begins a write.
  struct Begun {
    NodeId node;
    bool engine = false;  // else its supervisor
    std::uint64_t offset = 0, size = 0;
  };
  std::function<void(const SimUnit&, const Begun&)> on_begun;
  SimUnit* data_disk = nullptr;  // sabotage: dump_disk_checked

  // ---- faults ----
  struct Faults {
    Duration latency_min = std::chrono::microseconds(50);
    Duration latency_max = std::chrono::microseconds(800);
    Instant errors_until{};
    unsigned errors_per_100 = 0;  // of reads and writes end with MEDIUM ERROR
    Instant slow_until{};
    Duration slow_max{};
    // Mailbox and heartbeat writes that go wrong although they are answered GOOD.
    unsigned lost_writes = 0, misdirected_writes = 0;
    // The same, of the pool's metadata.
    unsigned lost_pool_writes = 0, misdirected_pool_writes = 0;
  };
  Faults faults;
  void hang(bool hanging);
  bool hanging() const { return hanging_; }
  void power_off();
  // `forget`: the registrations are gone, though they were to persist.
  void power_on(bool forget = false);
  std::optional<Instant> forgot() const { return forgot_; }  // when it last did
  void add_attention(scsi::UnitAttention attention) { unit_->add_attention(attention); }
  // Nothing passes between this node and the unit until then; `reset`: both ends learn it at once.
  void cut_path(NodeId node, Instant until, bool reset);
  bool path_cut(NodeId node) const;
  // Straight into the medium.
  void poke(std::uint64_t offset, Bytes bytes);
  void heal();

 private:
  friend class SimDisk;
  using Session = std::uint64_t;
  struct Path {
    Instant cut_until{};
  };
  struct Work {
    scsi::Action action;
    ports::TimerId timer;
    std::optional<Slice> early;  // read at the beginning
  };
  struct Outstanding {
    Session session;
    scsi::Nexus nexus;
    const void* data;  // owner of its data-out: tells whose a write is
  };

  // The session of a nexus begins; one that was there is reinstated: its commands end first.
  Session login(const scsi::Nexus& nexus, SimDisk& disk);
  void logout(Session session);
  void forget_disk(const SimDisk& disk);  // it is gone; the unit may not know yet
  void arrive(Session session, scsi::Command&& command);

  void execute(scsi::Command&& command);
  void perform(scsi::Actions&& actions);
  void start(scsi::Action&& action, scsi::StoreTag tag);
  void finish(scsi::StoreTag tag);
  void abort(scsi::StoreTag tag);
  void done(scsi::StoreDone&& done);
  void answer(scsi::CommandTag tag, scsi::Response response);
  void end_session(Session session);
  void drop_sessions(bool reset);
  const scsi::Nexus& writer(const scsi::StoreWrite& write) const;
  void land(const scsi::StoreWrite& write, bool partly, bool aborting);
  Slice read(const scsi::StoreRead& read) const;
  void store(std::uint64_t offset, Bytes data, bool durable);
  void flush();
  Duration latency();
  bool spoil(const scsi::StoreWrite& write, Bytes data);
  bool spoil(disk::Area area, unsigned& lost, unsigned& misdirected, std::uint64_t offset,
             Bytes data);
  // sim_disk_sabotage.cc
  void remember_mark(std::uint64_t offset, Bytes data);
  bool diverts(const scsi::StoreWrite& write, Bytes data);

  Process& shelf_;
  const Sabotage& sabotage_;
  Options options_;
  Random random_;
  struct Free {
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte[], Free> bytes_;
  std::map<std::uint64_t, std::vector<std::byte>> cache_;  // by block
  std::vector<std::byte> kept_reservations_;               // APTPL
  std::unique_ptr<scsi::LogicalUnit> unit_;
  bool powered_ = true;
  bool hanging_ = false;
  std::optional<Instant> forgot_;
  struct Held {
    std::move_only_function<void()> event;
    Session session;  // 0: not a command
  };
  std::deque<Held> held_;
  std::array<Path, 3> paths_;
  Session last_session_ = 0;
  struct Open {
    scsi::Nexus nexus;
    SimDisk* disk;  // null: gone without a word
  };
  std::map<Session, Open> sessions_;
  std::unordered_map<scsi::CommandTag, Outstanding> outstanding_;
  std::unordered_map<scsi::StoreTag, Work> work_;
  std::uint64_t last_command_ = 0;
  std::uint64_t mailbox_changes_ = 0, pool_changes_ = 0;
  std::optional<ha::Mailbox> last_mirrored_;  // sabotage: stale_mark_honoured
};

class SimDisk final : public ports::Disk {
 public:
  struct Options {
    NodeId node;
    std::uint8_t role = 0;  // disk::KeyRole: makes the nexus, with the node
    Duration command_timeout = seconds(5);
  };
  static constexpr unsigned queue_depth = 32;
  static constexpr unsigned max_waiting = 512;
  static constexpr int max_repeats = 16;
  static constexpr int max_pauses = 10;
  static constexpr Duration pause = milliseconds(50);
  static constexpr Duration login_timeout = milliseconds(1000);
  static constexpr Duration backoff_min = milliseconds(20);
  static constexpr Duration backoff_max = milliseconds(500);

  SimDisk(Process& process, SimUnit& unit, const Sabotage& sabotage, Options options);
  ~SimDisk() override;
  void start();
  // Its process ends. `announce`: a kernel is left that closes the connection.
  void end(bool announce);

  const std::string& name() const override { return unit_.options_.name; }
  bool connected() const override { return connected_; }
  const ports::DiskGeometry& geometry() const override { return geometry_; }
  void on_connection(std::move_only_function<void(bool)> callback) override {
    on_connection_ = std::move(callback);
  }
  void on_attention(std::move_only_function<void(ports::Attention)> callback) override {
    on_attention_ = std::move(callback);
  }

  void read(std::uint64_t offset, MutableBytes into, ports::Done<void> done) override;
  void write(std::uint64_t offset, std::vector<Slice> data, bool durable,
             ports::Done<void> done) override;
  void flush(ports::Done<void> done) override;
  void register_key(ReservationKey key, ports::Done<void> done) override;
  void reserve(ReservationKey key, ports::ReservationType type, ports::Done<void> done) override;
  void release(ReservationKey key, ports::ReservationType type, ports::Done<void> done) override;
  void preempt(ReservationKey key, ReservationKey victim, ports::ReservationType type, bool abort,
               ports::Done<void> done) override;
  void read_keys(ports::Done<ports::RegisteredKeys> done) override;
  void read_reservation(ports::Done<ports::ReservationState> done) override;

 private:
  friend class SimUnit;
  using Finish = std::move_only_function<void(Result<Bytes>)>;
  struct Operation {
    scsi::Cdb cdb{};
    std::vector<Slice> data_out;
    std::uint32_t expected = 0;
    MutableBytes into;  // of a read
    initiator::CommandKind kind = initiator::CommandKind::transfer;
    Instant deadline{};
    Finish done;
    int repeats = 0, pauses = 0;
    bool probe = false;
  };

  void attempt();
  void log_in();
  void probe();
  void lose(const std::string& why, bool tell_unit);
  void retry_later();
  Status admit(std::uint64_t offset, std::uint64_t size) const;
  void begin(Operation operation, Status admitted);
  void pump();
  void submit(Operation operation);
  void deliver(SimUnit::Session session, std::uint64_t tag, scsi::Response response);
  void on_reply(std::uint64_t tag, scsi::Response response);
  void on_deadline();
  void finish_later(Operation operation, ErrorCode code, std::string why);
  bool pretends_fenced(int action, ReservationKey key, ReservationKey victim,
                       ports::ReservationType type, ports::Done<void>& done);
  void reservation_out(int action, ports::ReservationType type, ReservationKey key,
                       ReservationKey argument, ports::Done<void> done);
  void reservation_in(int action, Finish done);
  void report(ports::Attention attention);
  // sim_disk_sabotage.cc
  bool is_engine() const;
  bool spoils(std::uint64_t offset, const Slice& data, ports::Done<void>& done);
  void write_late(std::uint64_t offset, const Slice& data);
  void falsify(std::uint64_t offset, MutableBytes read);
  bool waits_for_dump() const;

  Process& process_;
  SimUnit& unit_;
  const Sabotage& sabotage_;
  Options options_;
  scsi::Nexus nexus_;
  Random random_;
  ports::DiskGeometry geometry_;
  SimUnit::Session session_ = 0;  // 0: none
  bool connected_ = false;
  bool ended_ = false;
  Duration backoff_ = backoff_min;
  std::map<std::uint64_t, Operation> in_flight_;  // by tag
  std::deque<Operation> waiting_;
  std::vector<Operation> paused_;
  ports::TimerId deadline_timer_{}, pause_timer_{}, session_timer_{};
  Instant deadline_ = Instant::max();
  Instant last_to_unit_{}, last_from_unit_{};
  struct Pretence {
    ReservationKey holder, victim;
    ports::ReservationType type;
  };
  std::optional<Pretence> pretence_;                             // sabotage: every_disk_fenced
  std::map<std::uint64_t, std::vector<std::byte>> late_blocks_;  // sabotage: log_freed_after_cp
  bool spoiling_ = false;
  std::move_only_function<void(bool)> on_connection_;
  std::move_only_function<void(ports::Attention)> on_attention_;
};

}  // namespace duet::simulator
