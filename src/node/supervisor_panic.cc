// An engine that panics while it can still be dumped (docs/protocols/coredump.md): the HA core
// hears of it at once, as of an engine that has ended; the dump comes after, and only the end of
// this boot waits for it.
#include <fmt/format.h>

#include <algorithm>

#include "coredump/dump_disk.h"
#include "node/credentials.h"
#include "node/supervisor.h"

namespace duet::node {
namespace {

// What the core's own readings of labels say of a disk; nothing: not known.
std::optional<disk::Label> label_of(
    const std::array<std::vector<std::byte>, disk::label_copies>& copies) {
  auto chosen = disk::choose_label(copies[0], copies[1]);
  return chosen ? std::optional(chosen->label) : std::nullopt;
}

}  // namespace

// The core reads the labels of all disks now and then: which disk a path leads to.
void Supervisor::note_label(ha::DiskRef ref, std::uint64_t offset, Bytes block) {
  if (ref.identity != config_.self || block.size() != disk::area_block_size) return;
  panic_.labels.resize(ports_.disks[config_.self.value()].size());
  for (int copy = 0; copy < disk::label_copies; ++copy) {
    if (offset != disk::label_copy(copy).offset) continue;
    panic_.labels[ref.index][static_cast<std::size_t>(copy)].assign(block.begin(), block.end());
  }
}

// Those that could be: labels and everything else are read again before one is chosen.
std::vector<PanicDump::Disk> Supervisor::dump_disks() const {
  std::vector<PanicDump::Disk> disks;
  for (std::size_t i = 0; i < panic_.labels.size(); ++i) {
    auto label = label_of(panic_.labels[i]);
    if (!label || label->role == disk::Role::data || label->mailbox) continue;
    const bool free = (panic_.free_spares >> i & 1U) != 0;
    if (label->role != disk::Role::coredump && !free) continue;  // RAID's until it says otherwise
    disks.push_back({ports_.disks[config_.self.value()][i], label->id, free});
  }
  return disks;
}

// A dump costs nothing only while somebody else serves meanwhile: without a partner that lives, or
// with its identity in our hands, the reboot comes first.
std::optional<std::string> Supervisor::why_no_dump() {
  if (!config_.dump) return "the configuration says coredump.enabled = false";
  if (boot_is_ending()) return "this boot of the node is ending";
  if (ports_.engine.core() == nullptr) return "the engine cannot be traced";
  if (panic_.epoch == Epoch(0)) return "the engine does not serve the node's own identity";
  auto core = core_->snapshot(ports_.scheduler.now());
  bool partner_lives =
      core.partner_verdict == ha::Verdict::alive ||
      (core.partner_verdict == ha::Verdict::suspect && core.interconnect == ha::Channel::fresh);
  if (!partner_lives) return "the partner does not look alive: the reboot comes first";
  if (core.identities[config_.partner().value() - 1u].served_here) {
    return "the partner's identity is served here: the reboot comes first";
  }
  const auto& own = core.identities[config_.self.value() - 1u];
  if (own.mailbox_known && own.durability == Durability::local) {
    return "only this node's log has what was acknowledged: the reboot comes first";
  }
  if (dump_disks().empty()) {
    return "no disk of the node is known to be for dumps";
  }
  return std::nullopt;
}

// Kills it at once if it cannot be dumped. Its end takes as long as the kernel takes to free its
// memory, most of a second for a large cache: nobody waits for that but our next boot.
bool Supervisor::may_dump(const std::string& how) {
  auto why_not = why_no_dump();
  if (!why_not) return true;
  note(ha::Severity::notice, "node.no_dump", *why_not);
  if (boot_is_ending()) {
    engine_kill_reason_ = how;
  } else {
    begin_panic(how, false);
  }
  ports_.engine.kill();
  return false;
}

bool Supervisor::boot_is_ending() const {
  return panic_.under_way || engine_stop_expected_ || between_boots_ || on_engine_gone_;
}

// The engine stands still, its sockets closed.
void Supervisor::engine_panicked(const ports::EnginePanic& panic) {
  if (panic_.under_way && panic_.interrupt_timer != ports::TimerId(0)) {  // as we asked it to
    ports_.scheduler.cancel(std::exchange(panic_.interrupt_timer, ports::TimerId(0)));
    return begin_dump();
  }
  if (!may_dump(panic.how)) return;
  begin_panic(panic.how, true);
  begin_dump();
}

// It shall crash where it hangs; what hangs in the kernel does not, and is not dumped.
void Supervisor::engine_hangs(const std::string& how) {
  if (!may_dump(how)) return;
  begin_panic(how, true);
  panic_.interrupt_timer =
      ports_.scheduler.at(ports_.scheduler.now() + interrupt_limit, in_this_boot([this] {
                            panic_.interrupt_timer = {};
                            dump_over({false, "no dump: the engine hangs in the kernel"});
                          }));
  ports_.engine.interrupt();
}

// First of all what ends the clients' pause: notice and state, leases, addresses.
void Supervisor::begin_panic(const std::string& how, bool dumped) {
  panic_.under_way = true;
  panic_.how = how;
  watchdog_.ended();
  addresses_.withdraw_all();
  feed(ha::EngineEnded{false, how, dumped});
  engine_report_ = {};
  health_.engine_ready = false;
  drop_engine_requests("the engine panicked");
}

void Supervisor::begin_dump() {
  PanicDump::Order order;
  order.cluster = config_.cluster;
  order.holder = panic_.holder;
  order.limit = config_.dump_limit;
  order.dump.node = config_.self;
  order.dump.epoch = panic_.epoch;
  order.dump.boot_nonce = nonce_;
  order.dump.log_written = LogSequence(ports_.engine.shared().log_written);
  order.dump.log_freed = LogSequence(ports_.engine.shared().log_freed);
  order.dump.wall_time = static_cast<std::uint64_t>(ports_.wall_clock_ns() / 1'000'000'000);
  order.dump.version = software_version;
  order.dump.reason = panic_.how;
  order.dump.cache = config_.dump_cache;
  order.disks = dump_disks();
  panic_.dump = std::make_unique<PanicDump>(
      ports_.scheduler, *ports_.engine.core(), std::move(order),
      [this] {
        if (!std::exchange(panic_.announced, true)) {
          note(ha::Severity::notice, "node.dumping",
               "the engine's memory goes to " + panic_.dump->progress().disk);
        }
        feed(ha::DumpChanged{false});
      },
      [this](const PanicDump::Outcome& outcome) { dump_over(outcome); });
  panic_.dump->start();
}

void Supervisor::perform(ha::StopDump&) {
  if (panic_.dump) panic_.dump->stop("nobody serves for this node");
}

void Supervisor::dump_over(const PanicDump::Outcome& outcome) {
  auto severity = outcome.complete ? ha::Severity::notice : ha::Severity::warning;
  note(severity, outcome.complete ? "node.dumped" : "node.dump_failed", outcome.text);
  panic_.dump.reset();
  ports_.engine.kill();
  feed(ha::DumpChanged{true});
}

// The core knows already; what is to come is the end of the dump.
void Supervisor::panicked_engine_ended() {
  if (panic_.dump) return panic_.dump->process_gone();
  if (panic_.interrupt_timer == ports::TimerId(0)) return;
  ports_.scheduler.cancel(std::exchange(panic_.interrupt_timer, ports::TimerId(0)));
  dump_over({false, "no dump: the engine has ended"});
}

std::optional<PanicDump::Progress> Supervisor::dump_progress() const {
  return panic_.dump ? std::optional(panic_.dump->progress()) : std::nullopt;
}

}  // namespace duet::node
