#include "ha/mailbox.h"

#include <cstring>

#include "base/crc32c.h"
#include "base/zero.h"

namespace duet::ha {
namespace {

constexpr std::uint32_t version = 1;
constexpr std::size_t crc_offset = 12;
constexpr std::size_t disk_ids_offset = 128;
constexpr std::array<char, 8> mailbox_magic{'D', 'U', 'E', 'T', 'M', 'B', 'O', 'X'};
constexpr std::array<char, 8> heartbeat_magic{'D', 'U', 'E', 'T', 'B', 'E', 'A', 'T'};

std::uint32_t checksum(Bytes block) {
  constexpr std::array<std::byte, 4> zero{};
  auto crc = crc32c(block.first(crc_offset));
  crc = crc32c_extend(crc, zero);
  return crc32c_extend(crc, block.subspan(crc_offset + 4));
}

std::vector<std::byte> finish(ByteWriter& w) {
  auto block = w.take();
  block.resize(mailbox_block_size);
  store_le(block.data() + crc_offset, checksum(block));
  return block;
}

void put_header(ByteWriter& w, const std::array<char, 8>& magic) {
  w.put_bytes(std::as_bytes(std::span(magic)));
  w.put(version);
  w.put(std::uint32_t{0});
}

// Size, magic, checksum, version, in this order: an undamaged block of another version has a name.
Status check_header(Bytes block, const std::array<char, 8>& magic) {
  if (block.size() != mailbox_block_size) return fail(ErrorCode::invalid, "not one block");
  if (std::memcmp(block.data(), magic.data(), magic.size()) != 0) {
    return fail(ErrorCode::invalid, "no " + std::string(magic.data(), magic.size()) + " block");
  }
  if (load_le<std::uint32_t>(block.data() + crc_offset) != checksum(block)) {
    return fail(ErrorCode::invalid, "checksum wrong");
  }
  if (auto v = load_le<std::uint32_t>(block.data() + 8); v != version) {
    return fail(ErrorCode::unsupported_version, "version " + std::to_string(v));
  }
  return {};
}

bool is_node(NodeId node) {
  return node == NodeId(1) || node == NodeId(2);
}

const char* broken_rule(const Mailbox& m) {
  if (m.generation == 0) return "generation 0";
  if (!is_node(m.identity)) return "identity";
  if (m.server != no_node && !is_node(m.server)) return "server";
  if (m.server == no_node && m.epoch != Epoch(0)) return "no server in an epoch";
  if (m.taken_over_by != no_node) {
    if (m.taken_over_by != partner_of(m.identity)) return "taken over by";
    if (m.server != m.taken_over_by) return "taken over, served by another";
  }
  if (m.durability < Durability::mirrored || m.durability > Durability::write_through) {
    return "durability";
  }
  if (m.intent > Intent::halt_no_takeover) return "intent";
  if (m.log_epoch > m.epoch) return "log epoch";
  if (m.durability != Durability::write_through && m.nvram_server == 0)
    return "no NVRAM of the log";
  if ((m.durability == Durability::mirrored) != (m.nvram_mirror != 0)) return "NVRAM of the mirror";
  return nullptr;
}

}  // namespace

std::vector<std::byte> encode(const Mailbox& m) {
  ASSERT(broken_rule(m) == nullptr);
  ASSERT(m.disks.size() <= max_mailbox_disk_ids);
  ByteWriter w;
  put_header(w, mailbox_magic);
  w.put(m.generation);
  w.put(m.cluster.value());
  w.put(m.identity.value());
  w.put(m.server.value());
  w.put(m.taken_over_by.value());
  w.put(static_cast<std::uint8_t>(m.durability));
  w.put(static_cast<std::uint8_t>(m.intent));
  w.put(m.reason);
  w.put(static_cast<std::uint8_t>(m.disks.size()));
  w.put(std::uint8_t{0});
  w.put(m.epoch.value());
  w.put(m.durability_since.value());
  w.put(m.log_epoch.value());
  w.put(m.nvram_server);
  w.put(m.nvram_mirror);
  w.put(m.writer.value());
  w.put_bytes(std::array<std::byte, 40>{});
  ASSERT(w.size() == disk_ids_offset);
  for (const auto& id : m.disks) w.put_bytes(std::as_bytes(std::span(id.bytes)));
  return finish(w);
}

Result<Mailbox> decode_mailbox(Bytes block) {
  if (auto ok = check_header(block, mailbox_magic); !ok) return std::unexpected(ok.error());
  ByteReader r(block.subspan(16));
  Mailbox m;
  m.generation = r.get<std::uint64_t>();
  m.cluster = ClusterId(r.get<std::uint64_t>());
  m.identity = NodeId(r.get<std::uint8_t>());
  m.server = NodeId(r.get<std::uint8_t>());
  m.taken_over_by = NodeId(r.get<std::uint8_t>());
  m.durability = static_cast<Durability>(r.get<std::uint8_t>());
  m.intent = static_cast<Intent>(r.get<std::uint8_t>());
  m.reason = r.get<std::uint8_t>();
  auto disks = r.get<std::uint8_t>();
  bool reserved_zero = r.get<std::uint8_t>() == 0;
  m.epoch = Epoch(r.get<std::uint64_t>());
  m.durability_since = LogSequence(r.get<std::uint64_t>());
  m.log_epoch = Epoch(r.get<std::uint64_t>());
  m.nvram_server = r.get<std::uint64_t>();
  m.nvram_mirror = r.get<std::uint64_t>();
  m.writer = BootNonce(r.get<std::uint64_t>());
  if (disks > max_mailbox_disk_ids) return fail(ErrorCode::invalid, "number of disks");
  r.get_bytes(40);
  for (int i = 0; i < disks; ++i) {
    auto bytes = r.get_bytes(16);
    std::memcpy(m.disks.emplace_back().bytes.data(), bytes.data(), bytes.size());
  }
  if (!reserved_zero || !all_zero(block.subspan(88, 40)) ||
      !all_zero(block.subspan(disk_ids_offset + 16 * m.disks.size()))) {
    return fail(ErrorCode::invalid, "reserved bytes not 0");
  }
  if (const char* rule = broken_rule(m)) return fail(ErrorCode::invalid, rule);
  return m;
}

std::vector<std::byte> encode(const Heartbeat& h) {
  ASSERT(is_node(h.identity) && is_node(h.server) && h.nonce != BootNonce(0));
  ByteWriter w;
  put_header(w, heartbeat_magic);
  w.put(h.cluster.value());
  w.put(h.identity.value());
  w.put(h.server.value());
  w.put_bytes(std::array<std::byte, 6>{});
  w.put(h.nonce.value());
  w.put(h.epoch.value());
  w.put(h.counter);
  return finish(w);
}

Result<Heartbeat> decode_heartbeat(Bytes block) {
  if (auto ok = check_header(block, heartbeat_magic); !ok) return std::unexpected(ok.error());
  ByteReader r(block.subspan(16));
  Heartbeat h;
  h.cluster = ClusterId(r.get<std::uint64_t>());
  h.identity = NodeId(r.get<std::uint8_t>());
  h.server = NodeId(r.get<std::uint8_t>());
  bool reserved_zero = all_zero(r.get_bytes(6));
  h.nonce = BootNonce(r.get<std::uint64_t>());
  h.epoch = Epoch(r.get<std::uint64_t>());
  h.counter = r.get<std::uint64_t>();
  if (!is_node(h.identity) || !is_node(h.server) || h.nonce == BootNonce(0) || !reserved_zero ||
      !all_zero(block.subspan(56))) {
    return fail(ErrorCode::invalid, "a field breaks its rule");
  }
  return h;
}

Mailbox first_mailbox(ClusterId cluster, NodeId identity, std::vector<DiskId> disks) {
  return {.cluster = cluster,
          .identity = identity,
          .generation = 1,
          .epoch = Epoch(0),
          .server = no_node,
          .taken_over_by = no_node,
          .durability = Durability::write_through,
          .intent = Intent::none,
          .reason = 0,
          .durability_since = LogSequence(0),
          .log_epoch = Epoch(0),
          .nvram_server = 0,
          .nvram_mirror = 0,
          .writer = BootNonce(0),
          .disks = std::move(disks)};
}

}  // namespace duet::ha
