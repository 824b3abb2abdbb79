// Test helper: a pair of cores over simulated disks, link, NVRAM and engines, in virtual time. The
// same seed gives the same run. Checks all the while: I1 (nothing acknowledged is lost), I2 (one
// server, fresh reads), I3 (no stale writes), I4 (the mailbox covers every acknowledgement), I5,
// I12.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "disk/areas.h"
#include "ha/cluster_disk.h"
#include "ha/core.h"
#include "simulation/random.h"

namespace duet::ha::testing {

inline constexpr NodeId red{1}, blue{2};
inline constexpr std::uint64_t data_block = disk::data_offset;  // the simulated pool: epoch, value

struct Options {
  std::uint64_t seed = 1;
  std::uint8_t disks = 4;              // of each identity
  std::uint8_t redundancy = 0;         // that labels say; the pool needs the last disk alone
  std::uint8_t spares = 0;             // disks before the last
  bool dedicated = false;              // the last of the spares is a coredump disk
  Duration collect = milliseconds(1);  // a dump
  bool auto_giveback = false;
  AutoGivebackRules rules;
  bool persistent_nvram = true;
  Timers timers;
  Duration engine_start = milliseconds(40);
  Duration replay = milliseconds(10);
  Duration client_interval = milliseconds(20);
  std::uint64_t errors_per_10000 = 0;  // disk commands that fail, done or not
  std::uint64_t slow_per_100 = 1;      // disk commands that take tens of milliseconds
  Duration boot_time = milliseconds(200);
  Duration prepare = milliseconds(20);
  Duration hand_over = milliseconds(10);  // the drain
  std::uint64_t prepare_fails_per_100 = 0;
  std::uint64_t hand_over_fails_per_100 = 0;
  bool hand_over_hangs = false;  // nor does a cancellation help
};

class Cluster {
 public:
  explicit Cluster(Options options);
  ~Cluster();

  // ---- time ----
  Instant now() const { return now_; }
  void run_for(Duration time);
  bool run_until(const std::function<bool()>& condition, Duration limit);
  // Events that cores have handled; on_handled is told before each (for faults at the n-th).
  std::uint64_t handled(NodeId node) const { return node_of(node).handled; }
  std::function<void(NodeId, const Event&)> on_handled;

  // ---- the world ----
  void power_on(NodeId node);
  void power_off(NodeId node);  // both processes gone at once; NVRAM stays
  void pause(NodeId node);      // SIGSTOP of both processes
  void resume(NodeId node);
  void panic_engine(NodeId node);
  // Its boot does not end before let_reboot(): it is busy with its dump.
  void hold_reboot(NodeId node) { node_of(node).held = true; }
  void let_reboot(NodeId node);
  // By its supervisor; `done` may be absent.
  void write(NodeId node, DiskRef disk, std::uint64_t offset, std::vector<std::byte> bytes,
             std::function<void(Status)> done = {});
  void cut_link();
  void restore_link();
  void cut_path(NodeId node, DiskRef disk);
  void restore_path(NodeId node, DiskRef disk);
  void lose_nvram(NodeId node);
  void damage_log(NodeId node, NodeId identity);  // as `node` has it; until it is written anew
  void stop_errors() { options_.errors_per_10000 = 0; }
  void blip(NodeId identity, bool forget_registrations);  // shelf power
  void order(NodeId at, OperatorVerb verb, NodeId about, bool force = false);
  std::uint64_t order(NodeId at, OperatorRequest request);  // its number
  Options& change() { return options_; }
  // What was answered last to an order; nothing: none yet.
  std::optional<OperatorAnswer> answer_to(std::uint64_t request) const;
  bool prepared(NodeId node) const { return node_of(node).engine.prepared; }
  void send(NodeId to, const Event& event);  // straight into a core
  ClusterDisk& disk(DiskRef ref) { return disks_[ref.identity.value() - 1].at(ref.index); }
  // At most one write is torn: the next mailbox write to this copy.
  void tear_next_mailbox_write(DiskRef disk, int copy) { tear_ = {{disk, copy}}; }

  // ---- what is seen ----
  bool powered(NodeId node) const { return node_of(node).powered; }
  bool paused(NodeId node) const { return node_of(node).paused; }
  bool halted(NodeId node) const { return node_of(node).halted; }
  bool link_up() const { return !link_cut_; }
  const Options& options() const { return options_; }
  Snapshot snapshot(NodeId node) const;
  NodeState state(NodeId node) const;
  bool serves(NodeId node, NodeId identity) const;  // engine open, lease valid
  std::uint64_t acknowledged(NodeId identity) const { return identity_of(identity).acknowledged; }
  Durability mode_in_mailbox(NodeId identity) const;
  // Some disk of this identity knows a key of its partner (I6, when it is at home).
  bool left_registered(NodeId identity) const;
  std::optional<Mailbox> mailbox(NodeId identity) const;  // as a reader of all disks would choose
  std::uint64_t boots(NodeId node) const { return node_of(node).boots; }
  bool logged(NodeId node, const std::string& phase) const;
  std::uint64_t log_count(NodeId node, const std::string& phase) const;
  void clear_log() { log_.clear(); }
  std::vector<OperatorAnswer> answers;
  // The longest time without an acknowledgement since the last call.
  Duration longest_pause(NodeId identity);
  std::string describe() const;
  const std::vector<std::string>& violations() const { return violations_; }
  std::string history() const;  // the log, for failures

 private:
  struct Log {  // ring of one identity in a node's NVRAM
    Epoch epoch;
    std::uint64_t last = 0;  // records up to here
    bool damaged = false;
  };
  struct Serving {
    Epoch epoch;
    bool assumed = false;
    bool releasing = false;
    bool handing_over = false, handed_over = false;
    std::uint64_t hand_over_run = 0;
    ReservationKey key, holder;
    std::uint64_t value = 0;
    std::optional<Durability> granted;
    std::set<Durability> wanted;  // since the grant: acknowledgements satisfy these too
    std::optional<Durability> asked;
    bool busy = false;  // a client write is under way
    bool fenced = false;
    int flushing = 0;               // writes under way: released only when there are none
    std::set<std::uint8_t> absent;  // not to be touched
  };
  struct Engine {
    bool ready = false;
    std::map<NodeId, Serving> serving;
    BootNonce window_for;  // partner's boot that may write its ring here
    bool mirror_up = false;
    BootNonce mirror_boot;
    bool partner_fenced = false;
    bool prepared = false;
    std::set<DiskRef> collecting;
  };
  struct InFlight {
    std::uint64_t boot;
    Nexus nexus;
    DiskRef disk;
    bool arrived = false;
    std::function<void(Result<DiskReply>)> done;
    std::shared_ptr<bool> aborted;
  };
  struct Node {
    NodeId id;
    bool powered = false, paused = false, halted = false, link = false;
    bool held = false;  // hold_reboot()
    std::function<void()> reboot;
    std::uint64_t boots = 0, handled = 0;
    BootNonce nonce;
    std::unique_ptr<Core> core;
    Engine engine;
    std::uint64_t engine_run = 0;
    std::uint64_t nvram = 0;
    std::map<NodeId, Log> logs;
    std::array<Instant, 3> lease{};
    std::optional<StateStructure> published;
    std::uint64_t timer_version = 0;
    std::deque<std::function<void()>> frozen;  // while paused
    std::set<DiskRef> cut;
    std::uint64_t dumps_stopped = 0;
    std::vector<Instant> past_takeovers;  // what the daemon keeps over a reboot of its core
  };
  struct Identity {
    std::uint64_t acknowledged = 0;
    Epoch acknowledged_epoch;
    Epoch served_epoch;
    std::uint64_t mailbox_generation = 0;          // the newest that was written
    Epoch mailbox_epoch;                           // in that one
    std::map<std::uint8_t, Epoch> mailbox_epochs;  // by disk
    bool claimed = false;
    Instant last_ack{};
    Duration longest{};
  };

  Node& node_of(NodeId id) { return nodes_[id.value() - 1]; }
  const Node& node_of(NodeId id) const { return nodes_[id.value() - 1]; }
  Identity& identity_of(NodeId id) { return identities_[id.value() - 1]; }
  const Identity& identity_of(NodeId id) const { return identities_[id.value() - 1]; }

  void at(Duration delay, std::function<void()> task);
  // Runs in a process of `node` of this boot: not if it is gone, later if it is paused.
  void at_node(Node& node, Duration delay, std::function<void()> task);
  void at_engine(Node& node, Duration delay, std::function<void()> task);
  Duration random(Duration low, Duration high);
  void deliver(Node& node, const Event& event);
  void perform(Node& node, const Action& action);
  void label(NodeId identity);
  void boot(Node& node);
  void end_processes(Node& node);
  void stop_engine(Node& node);
  void keep_beating(Node& node);
  void set_link();

  void command(Node& node, bool engine, DiskRef ref, DiskOperation operation,
               std::function<void(Result<DiskReply>)> done);
  void execute(std::uint64_t id, const DiskOperation& operation);
  void abort_commands(Nexus nexus, std::optional<DiskRef> disk);
  void check_write(Nexus nexus, DiskRef ref, const WriteBlock& write);
  void check_reservation(DiskRef ref);

  void read_partner_state(Node& node);
  void message(Node& node, std::vector<std::byte> bytes);
  void dial(Node& node, const DialMirror& dial);
  bool mirror_reaches(const Node& from, NodeId identity) const;
  void assume(Node& node, const AssumeIdentity& order);
  void register_next(Node& node, AssumeIdentity order, std::uint8_t index);
  void open_pool(Node& node, AssumeIdentity order);
  void release(Node& node, NodeId identity);
  void prepare(Node& node, NodeId identity);
  void hand_over(Node& node, NodeId identity);
  void drain(Node& node, NodeId identity, std::uint64_t run);
  void cancel_hand_over(Node& node, NodeId identity);
  void check_published(Node& node, const StateStructure& said);
  void choose_mode(Node& node, NodeId identity);
  void ask_mode(Node& node, NodeId identity, Durability mode, std::uint64_t since);
  void client(NodeId identity);
  void client_step(Node& node, NodeId identity, std::uint64_t value);
  bool satisfied(const Node& node, NodeId identity, std::uint64_t value, Durability mode) const;
  void flush(Node& node, NodeId identity);
  void acknowledge(Node& node, NodeId identity, std::uint64_t value);
  std::uint64_t disk_value(NodeId identity) const;
  void engine_fenced(Node& node, NodeId identity);
  void violation(const std::string& what);
  void note(NodeId node, const std::string& phase, const std::string& text);

  struct Task {
    Instant when;
    std::uint64_t order;
    std::function<void()> run;
    bool operator>(const Task& other) const {
      return std::tie(when, order) > std::tie(other.when, other.order);
    }
  };
  struct Line {
    Instant when;
    NodeId node;
    std::string phase, text;
  };

  Options options_;
  simulation::Random random_;
  Instant now_;
  std::uint64_t order_ = 0;
  std::vector<Task> tasks_;  // a heap
  std::array<std::vector<ClusterDisk>, 2> disks_;
  std::array<Node, 2> nodes_;
  std::array<Identity, 2> identities_;
  std::map<std::uint64_t, InFlight> in_flight_;
  std::uint64_t last_command_ = 0;
  std::map<std::pair<Nexus, DiskRef>, Instant> last_arrival_;
  std::uint64_t last_request_ = 1000;
  bool link_cut_ = false;
  std::optional<std::pair<DiskRef, int>> tear_;
  std::vector<Line> log_;
  std::vector<std::string> violations_;
};

}  // namespace duet::ha::testing
