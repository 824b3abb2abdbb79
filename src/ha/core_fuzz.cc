// Any order of events, any outcome of any command: a core never crashes and never acts after
// EndBoot. Bytes of the fuzzer choose what happens next; disks answer as real ones would, or as
// broken ones.
#include <algorithm>
#include <deque>
#include <map>

#include "disk/areas.h"
#include "disk/label.h"
#include "ha/core.h"

using namespace duet;
using namespace duet::ha;

namespace {

const ClusterId cluster{5};
constexpr std::size_t max_steps = 500;

struct FakeDisk {
  std::vector<ReservationKey> keys;
  std::optional<ReservationKey> holder;
  ports::ReservationType type{};
  std::map<std::uint64_t, std::vector<std::byte>> blocks;
};

class Driver {
 public:
  Driver(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {
    Config config;
    config.self = NodeId(1);
    config.cluster = cluster;
    config.shelves[1].disks = static_cast<std::uint8_t>(1 + byte() % 4);
    config.shelves[2].disks = static_cast<std::uint8_t>(1 + byte() % 4);
    config.auto_giveback = byte() % 2 == 0;
    for (auto id : {NodeId(1), NodeId(2)}) {
      for (std::uint8_t i = 0; i < config.disks(id); ++i) {
        auto& d = disks_[{id, i}];
        auto m = first_mailbox(cluster, id, {});
        auto taken = byte();
        if ((taken & 16) != 0) label({id, i}, (taken & 32) != 0);
        if (taken % 4 == 0) {
          m.epoch = Epoch(2);
          m.server = m.taken_over_by = partner_of(id);
        }
        for (int copy = 0; copy < 2; ++copy) d.blocks[disk::mailbox_copy(copy).offset] = encode(m);
      }
    }
    core_.emplace(config, BootNonce(11));
    give(Started{});
    for (auto& [ref, d] : disks_) give(DiskConnection{ref, true});
  }
  void run() {
    for (std::size_t i = 0; i < max_steps && at_ < size_; ++i) step();
    (void)core_->snapshot(now_);
  }

 private:
  std::uint8_t byte() { return at_ < size_ ? data_[at_++] : 0; }
  static DiskId disk_id(DiskRef ref) {
    DiskId id;
    id.bytes.fill(static_cast<std::uint8_t>(ref.identity.value() * 16 + ref.index));
    return id;
  }
  // What is no mailbox disk may bear a dump.
  void label(DiskRef ref, bool dedicated) {
    disk::Label label;
    label.cluster = cluster;
    label.id = disk_id(ref);
    label.owner = ref.identity;
    label.mailbox = ref.index < 3;
    label.role = label.mailbox ? disk::Role::data
                 : dedicated   ? disk::Role::coredump
                               : disk::Role::spare;
    if (label.mailbox) label.position = ref.index, label.disks_in_pool = 3, label.redundancy = 1;
    label.size = 64ULL << 20;
    label.pool[0] = 1;
    label.pool_name = "pool";
    auto block = disk::encode_label(label);
    ASSERT(block.has_value());
    for (int copy = 0; copy < 2; ++copy) {
      disks_[ref].blocks[disk::label_copy(copy).offset] = *block;
    }
  }
  NodeId node() { return NodeId(static_cast<std::uint8_t>(byte() % 4)); }

  void give(const Event& event) {
    Actions actions;
    core_->on_event(event, now_, actions);
    ASSERT(!ended_ || actions.empty());
    for (auto& action : actions) {
      ASSERT(!ended_);
      if (auto* c = std::get_if<DiskCommand>(&action)) {
        ASSERT(disks_.contains(c->disk));
        open_.push_back(*c);
      }
      if (auto* a = std::get_if<AssumeIdentity>(&action))
        answers_.push_back(IdentityAssumed{a->identity, 1});
      if (auto* a = std::get_if<ReleaseIdentity>(&action))
        answers_.push_back(IdentityReleased{a->identity});
      if (auto* a = std::get_if<PrepareIdentity>(&action))
        answers_.push_back(IdentityPrepared{a->identity, true, {}});
      if (auto* a = std::get_if<HandOverIdentity>(&action))
        answers_.push_back(IdentityHandedOver{a->identity, 0});
      if (auto* a = std::get_if<CancelHandOver>(&action))
        answers_.push_back(HandOverFailed{a->identity, "cancelled"});
      if (auto* a = std::get_if<CheckLog>(&action))
        answers_.push_back(LogChecked{a->identity, byte() % 8 != 0, "fuzz"});
      if (std::holds_alternative<CloseMirrorWindow>(action))
        answers_.push_back(MirrorWindowClosed{});
      if (std::holds_alternative<StopEngine>(action))
        answers_.push_back(EngineEnded{true, "stopped"});
      if (std::holds_alternative<EndBoot>(action)) ended_ = true;
    }
  }

  Result<DiskReply> perform(const DiskCommand& c) {
    auto& d = disks_[c.disk];
    return std::visit(
        Overloaded{
            [&](const ReadBlock& r) -> Result<DiskReply> {
              auto it = d.blocks.find(r.offset);
              return DiskReply{it != d.blocks.end() ? it->second : std::vector<std::byte>(4096)};
            },
            [&](const WriteBlock& w) -> Result<DiskReply> {
              d.blocks[w.offset] = w.bytes;
              return DiskReply{};
            },
            [&](const ReadKeys&) -> Result<DiskReply> {
              return DiskReply{ports::RegisteredKeys{1, d.keys}};
            },
            [&](const ReadReservation&) -> Result<DiskReply> {
              return DiskReply{ports::ReservationState{
                  1, d.holder.has_value(), d.holder.value_or(ReservationKey(0)), d.type}};
            },
            [&](const RegisterKey& r) -> Result<DiskReply> {
              if (r.key != ReservationKey(0)) d.keys.push_back(r.key);
              return DiskReply{};
            },
            [&](const Reserve& r) -> Result<DiskReply> {
              d.holder = r.key;
              d.type = r.type;
              return DiskReply{};
            },
            [&](const Preempt& p) -> Result<DiskReply> {
              if (p.victim != p.key) std::erase(d.keys, p.victim);
              if (d.holder == p.victim) {
                d.holder = p.key;
                d.type = p.type;
              }
              return DiskReply{};
            },
        },
        c.operation);
  }

  void complete() {
    if (open_.empty()) return;
    auto which = byte() % std::min<std::size_t>(open_.size(), 8);
    auto c = open_[which];
    open_.erase(open_.begin() + static_cast<std::ptrdiff_t>(which));
    auto how = byte();
    if (how < 200) return give(DiskCompleted{c.command, perform(c)});
    if (how < 230) {
      return give(DiskCompleted{c.command, fail(static_cast<ErrorCode>(how % 12), "fuzz")});
    }
    if (how < 240) {  // nonsense
      return give(DiskCompleted{c.command, DiskReply{std::vector<std::byte>(byte())}});
    }
    give(DiskCompleted{c.command, DiskReply{}});
  }

  // What the partner says from now on.
  void partner_structure() {
    partner_.state = static_cast<NodeState>(1 + byte() % 10);
    partner_.reason = byte() % 8 == 0 ? static_cast<std::uint8_t>(Reason::nvram_lost) : 0;
    auto nonce = BootNonce(20U + byte() % 3);
    if (nonce != partner_.nonce) partner_.progress = partner_.heartbeat = 0;
    partner_.nonce = nonce;
    partner_.own_epoch = partner_.boot_epoch = Epoch(byte() % 8);
    auto more = byte();
    partner_.seen_partner = BootNonce(more % 4 == 0 ? 10 : 11);
    partner_.free_spares = more / 4U;
    partner_talks_ = byte() % 4 != 0;
    partner_beats_ = byte() % 2 == 0;
  }

  void hear_partner() {
    ++partner_.heartbeat;
    ++partner_.progress;
    if (partner_beats_) {
      Heartbeat h{.cluster = cluster,
                  .identity = NodeId(2),
                  .server = NodeId(2),
                  .nonce = partner_.nonce,
                  .epoch = partner_.own_epoch,
                  .counter = partner_.heartbeat};
      for (auto& [ref, d] : disks_) {
        if (ref.identity == NodeId(2)) d.blocks[disk::heartbeat_block.offset] = encode(h);
      }
    }
    if (!partner_talks_) return give(PartnerStateRead{fail(ErrorCode::disconnected, "fuzz")});
    auto bytes = interconnect::encode(partner_);
    give(PartnerStateRead{std::vector<std::byte>(bytes.begin(), bytes.end())});
  }

  // Everything goes as it should for a while, so that short inputs get far.
  void good_times(int ticks) {
    for (int i = 0; i < ticks && !ended_; ++i) {
      now_ += milliseconds(20);
      give(TimerExpired{1});
      for (int round = 0; round < 4; ++round) {
        for (auto& c : std::exchange(open_, {})) give(DiskCompleted{c.command, perform(c)});
        for (auto& answer : std::exchange(answers_, {})) give(answer);
      }
      hear_partner();
    }
  }

  void message() {
    Message m{.cluster = cluster,
              .sender = NodeId(2),
              .sender_nonce = BootNonce(20U + byte() % 3),
              .sender_epoch = Epoch(byte()),
              .addressee = BootNonce(11),
              .body = PanicNotice{}};
    switch (byte() % 10) {
      case 3:
        m.body = PleaseTakeover{byte() * 100U, byte() % 2 == 0, byte() % 2 == 0, byte(), {byte()}};
        break;
      case 4:
        m.body = TakeoverRefused{byte() % 4U, {byte()}};
        break;
      case 5:
        m.body = CancelShutdown{byte() % 4U};
        break;
      case 6:
        m.body = ShutdownDeclined{byte(), byte() % 4U};
        break;
      case 7:
        m.body = ForcedTakeover{byte() % 4U};
        break;
      case 8:
        m.body = Departed{};
        break;
      case 0:
        m.body = MirrorOffer{7002, true, 0xd2, byte()};
        break;
      case 1:
        m.body = PleaseDie{Epoch(byte())};
        break;
      case 2:
        m.body = PleaseShutdown{byte() * 100U, byte() % 4U};
        break;
      default:
        break;
    }
    give(MessageArrived{encode(m)});
  }

  void step() {
    switch (byte() % 21) {
      case 0:
      case 1:
        now_ += milliseconds(byte() * 4);
        give(TimerExpired{1});
        break;
      case 2:
        partner_structure();
        break;
      case 3:
        good_times(byte() % 64);
        break;
      case 4:
        message();
        break;
      case 5:
        give(EngineReady{0xd1, byte() % 4 != 0, 7001});
        break;
      case 6:
        if (byte() % 16 == 0) give(EngineEnded{byte() % 2 == 0, "fuzz", byte() % 2 == 0});
        break;
      case 7:
        give(MirrorWindowClosed{});
        break;
      case 8:
        give(IdentityAssumed{node(), byte()});
        break;
      case 9:
        give(AssumeFailed{node(), "fuzz"});
        break;
      case 10:
        give(IdentityReleased{NodeId(2)});
        break;
      case 11:
        give(ReleaseFailed{NodeId(2), "fuzz"});
        break;
      case 12:
        give(
            DurabilityWanted{node(), static_cast<Durability>(1 + byte() % 3), LogSequence(byte())});
        break;
      case 13:
        if (byte() % 16 == 0) give(EngineFenced{node()});
        if (byte() % 4 == 0) give(DumpChanged{byte() % 2 == 0});
        if (byte() % 4 == 0) give(DiskNeeded{NodeId(2), disk_id({NodeId(2), byte()})});
        if (byte() % 4 == 0) give(FreeSpares{byte()});
        if (byte() % 4 == 0)
          give(DumpCollection{{node(), byte()}, byte(), byte(), byte() % 2 == 0});
        break;
      case 14:
        give(OperatorRequest{.request = byte(),
                             .verb = static_cast<OperatorVerb>(byte() % 4),
                             .node = node(),
                             .force = byte() % 2 == 0,
                             .timeout = milliseconds(byte() * 50),
                             .no_takeover = byte() % 4 == 0,
                             .uncoordinated = byte() % 4 == 0});
        break;
      case 15: {
        DiskRef ref{node(), byte()};
        if (byte() % 4 == 0)
          give(DiskAttention{ref, static_cast<ports::Attention>(byte() % 6)});
        else
          give(DiskConnection{ref, byte() % 8 != 0});
        break;
      }
      case 16:
        give(LinkChanged{static_cast<ports::LinkState>(byte() % 9)});
        break;
      case 17: {  // the partner takes a disk
        auto it = std::next(disks_.begin(), byte() % static_cast<int>(disks_.size()));
        auto key = disk::make_key(cluster, NodeId(2), disk::KeyRole::supervisor, Epoch(byte()));
        it->second.keys.push_back(key);
        it->second.holder = key;
        it->second.type = byte() % 2 == 0
                              ? ports::ReservationType::exclusive_access_registrants_only
                              : ports::ReservationType::write_exclusive_registrants_only;
        break;
      }
      case 18:
        switch (byte() % 5) {
          case 4:
            return give(LogChecked{node(), byte() % 2 == 0, "fuzz"});
          case 0:
            return give(IdentityPrepared{node(), byte() % 2 == 0, "fuzz"});
          case 1:
            return give(IdentityHandedOver{node(), byte()});
          default:
            return give(HandOverFailed{node(), "fuzz"});
        }
      default:
        for (int i = 0; i < 8; ++i) complete();
        break;
    }
  }

  const std::uint8_t* data_;
  std::size_t size_, at_ = 0;
  Instant now_ = Instant{} + seconds(100);
  std::map<DiskRef, FakeDisk> disks_;
  std::deque<DiskCommand> open_;
  std::optional<Core> core_;
  std::vector<Event> answers_;  // of the engine, to what it was ordered
  StateStructure partner_{.cluster = cluster,
                          .node = NodeId(2),
                          .nonce = BootNonce(20),
                          .boot_epoch = {},
                          .own_epoch = {},
                          .partner_epoch = {},
                          .seen_partner = {}};
  bool partner_talks_ = false, partner_beats_ = false;
  bool ended_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Driver(data, size).run();
  return 0;
}
