#include "interconnect/state_structure.h"

#include <algorithm>
#include <utility>

#include "base/crc32c.h"

namespace duet::interconnect {

namespace {

namespace at {
constexpr std::size_t checksum = 0;
constexpr std::size_t version = 4;
constexpr std::size_t size = 6;
constexpr std::size_t cluster = 8;
constexpr std::size_t node = 16;
constexpr std::size_t state = 17;
constexpr std::size_t reason = 18;
constexpr std::size_t flags = 19;
constexpr std::size_t reserved_1 = 20;  // 4 bytes
constexpr std::size_t nonce = 24;
constexpr std::size_t boot_epoch = 32;
constexpr std::size_t progress = 40;
constexpr std::size_t heartbeat = 48;
constexpr std::size_t own_epoch = 56;
constexpr std::size_t partner_epoch = 64;
constexpr std::size_t seen_partner = 72;
constexpr std::size_t free_spares = 80;
constexpr std::size_t reserved_2 = 88;  // 40 bytes
}  // namespace at

constexpr std::uint8_t flag_mirror_window_open = 1;

bool all_zero(Bytes bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

std::string_view name(NodeState state) {
  switch (state) {
    case NodeState::booting:
      return "booting";
    case NodeState::givewait:
      return "givewait";
    case NodeState::mbwait:
      return "mbwait";
    case NodeState::up:
      return "up";
    case NodeState::taken_over_partner:
      return "taken_over_partner";
    case NodeState::giving_back:
      return "giving_back";
    case NodeState::shutting_down:
      return "shutting_down";
    case NodeState::panic:
      return "panic";
    case NodeState::dumping:
      return "dumping";
    case NodeState::halted:
      return "halted";
  }
  return "?";
}

std::array<std::byte, state_structure_size> encode(const StateStructure& s) {
  std::array<std::byte, state_structure_size> bytes{};
  std::byte* p = bytes.data();
  store_le(p + at::version, state_structure_version);
  store_le(p + at::size, static_cast<std::uint16_t>(state_structure_size));
  store_le(p + at::cluster, s.cluster.value());
  store_le(p + at::node, s.node.value());
  store_le(p + at::state, static_cast<std::uint8_t>(s.state));
  store_le(p + at::reason, s.reason);
  store_le(p + at::flags,
           s.mirror_window_open ? flag_mirror_window_open : static_cast<std::uint8_t>(0));
  store_le(p + at::nonce, s.nonce.value());
  store_le(p + at::boot_epoch, s.boot_epoch.value());
  store_le(p + at::progress, s.progress);
  store_le(p + at::heartbeat, s.heartbeat);
  store_le(p + at::own_epoch, s.own_epoch.value());
  store_le(p + at::partner_epoch, s.partner_epoch.value());
  store_le(p + at::seen_partner, s.seen_partner.value());
  store_le(p + at::free_spares, s.free_spares);
  store_le(p + at::checksum, crc32c(Bytes(bytes).subspan(at::version)));
  return bytes;
}

Result<StateStructure> decode_state_structure(Bytes bytes) {
  if (bytes.size() != state_structure_size) {
    return fail(ErrorCode::invalid, "state structure: not 128 bytes");
  }
  const std::byte* p = bytes.data();
  bool sound = load_le<std::uint32_t>(p + at::checksum) == crc32c(bytes.subspan(at::version));
  if (!sound && all_zero(bytes)) {
    return fail(ErrorCode::invalid, "state structure: not published yet");
  }
  if (load_le<std::uint16_t>(p + at::version) != state_structure_version) {
    return fail(ErrorCode::unsupported_version, "state structure: version is not 1");
  }
  if (!sound) return fail(ErrorCode::invalid, "state structure: wrong checksum");

  StateStructure s;
  s.cluster = ClusterId(load_le<std::uint64_t>(p + at::cluster));
  s.node = NodeId(load_le<std::uint8_t>(p + at::node));
  auto state = load_le<std::uint8_t>(p + at::state);
  s.reason = load_le<std::uint8_t>(p + at::reason);
  auto flags = load_le<std::uint8_t>(p + at::flags);
  s.mirror_window_open = (flags & flag_mirror_window_open) != 0;
  s.nonce = BootNonce(load_le<std::uint64_t>(p + at::nonce));
  s.boot_epoch = Epoch(load_le<std::uint64_t>(p + at::boot_epoch));
  s.progress = load_le<std::uint64_t>(p + at::progress);
  s.heartbeat = load_le<std::uint64_t>(p + at::heartbeat);
  s.own_epoch = Epoch(load_le<std::uint64_t>(p + at::own_epoch));
  s.partner_epoch = Epoch(load_le<std::uint64_t>(p + at::partner_epoch));
  s.seen_partner = BootNonce(load_le<std::uint64_t>(p + at::seen_partner));
  s.free_spares = load_le<std::uint64_t>(p + at::free_spares);

  bool fields_ok = load_le<std::uint16_t>(p + at::size) == state_structure_size &&
                   (s.node.value() == 1 || s.node.value() == 2) &&
                   state >= static_cast<std::uint8_t>(NodeState::booting) &&
                   state <= static_cast<std::uint8_t>(NodeState::halted) &&
                   (flags & ~flag_mirror_window_open) == 0 && s.nonce.value() != 0 &&
                   all_zero(bytes.subspan(at::reserved_1, 4)) &&
                   all_zero(bytes.subspan(at::reserved_2));
  if (!fields_ok) return fail(ErrorCode::invalid, "state structure: a field is out of its range");
  s.state = static_cast<NodeState>(state);
  return s;
}

std::optional<StateStructure> StableReader::observe(const Result<StateStructure>& read) {
  auto before = std::exchange(last_, std::nullopt);
  if (!read) return std::nullopt;
  last_ = *read;
  if (!before) return std::nullopt;
  if (read->heartbeat < before->heartbeat || read->progress < before->progress) return std::nullopt;
  before->heartbeat = read->heartbeat;
  before->progress = read->progress;
  if (*before != *read) return std::nullopt;
  return last_;
}

}  // namespace duet::interconnect
