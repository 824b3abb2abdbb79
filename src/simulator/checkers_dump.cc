#include "simulator/checkers_dump.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "coredump/chunk.h"
#include "coredump/chunk_reader.h"
#include "disk/areas.h"
#include "disk/reservation_key.h"
#include "node/core_folder.h"
#include "simulator/fault_plan.h"
#include "simulator/sim_node.h"

namespace duet::simulator {
namespace {

constexpr std::string_view header_magic = "DUETCORE", chunk_magic = "DUETCHNK";

bool begins_with(Bytes bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

bool is_header_copy(std::uint64_t offset, std::uint64_t size) {
  if (size != disk::area_block_size) return false;
  for (int copy = 0; copy < coredump::header_copies; ++copy) {
    if (offset == coredump::header_copy(copy).offset) return true;
  }
  return false;
}

Result<coredump::Header> header_of(const SimUnit& unit, bool stable) {
  std::array<std::vector<std::byte>, coredump::header_copies> copies;
  for (int copy = 0; copy < coredump::header_copies; ++copy) {
    const disk::Area area = coredump::header_copy(copy);
    const Bytes there = unit.stable().subspan(area.offset, area.size);
    copies[static_cast<std::size_t>(copy)] =
        stable ? std::vector<std::byte>(there.begin(), there.end())
               : unit.peek(area.offset, area.size);
  }
  return coredump::choose_header(copies[0], copies[1]);
}

// What would be left of the dump without power.
struct Readable {
  bool complete = false;
  std::vector<std::byte> core;
};
Readable read_dump(const SimUnit& unit, const coredump::Header& header) {
  Readable found;
  auto reader = coredump::ChunkReader::make({header.boot_nonce, header.epoch}, header.room);
  if (!reader) return found;
  while ((*reader)->phase() == coredump::ChunkReader::Phase::reading) {
    const auto next = (*reader)->next();
    const auto part =
        (*reader)->on_bytes(unit.stable().subspan(disk::data_offset + next.offset, next.size));
    if (part && part->kind == coredump::ChunkKind::core) {
      found.core.insert(found.core.end(), part->plain.begin(), part->plain.end());
    }
  }
  found.complete = (*reader)->phase() == coredump::ChunkReader::Phase::complete;
  return found;
}

}  // namespace

DumpCheckers::DumpCheckers(World& world) : world_(world) {
  for (std::uint8_t n : {1, 2}) {
    for (auto& unit : world.shelf(NodeId(n))) {
      unit->on_begun = [this](const SimUnit& u, const SimUnit::Begun& begun) {
        on_begun(u, begun);
      };
    }
    world.node(NodeId(n)).on_dump = [this](const std::shared_ptr<DumpedMemory>& memory) {
      memories_[node::CoreFolder::id_of(memory->boot)] = memory;
    };
  }
}

DumpCheckers::~DumpCheckers() {
  for (std::uint8_t n : {1, 2}) {
    for (auto& unit : world_.shelf(NodeId(n))) unit->on_begun = nullptr;
    world_.node(NodeId(n)).on_dump = nullptr;
  }
}

std::string DumpCheckers::name(NodeId node) const {
  return world_.config(NodeId(1)).name_of(node);
}

const DumpedMemory* DumpCheckers::memory(const std::string& id) const {
  auto it = memories_.find(id);
  return it == memories_.end() ? nullptr : it->second.get();
}

// ---- where a dump writes: I11 ----

void DumpCheckers::on_begun(const SimUnit& unit, const SimUnit::Begun& begun) {
  if (begun.engine || !world_.node(begun.node).stopped_for_dump()) return;
  const auto& options = unit.options();
  const bool place =
      is_header_copy(begun.offset, begun.size) ||
      (begun.offset >= disk::data_offset && begun.offset + begun.size <= options.size);
  if (options.owner == begun.node && is_dump_disk(options.index) && place) return;
  world_.violate("I11",
                 fmt::format("{}, whose engine has panicked, writes {} bytes at {} of disk {}",
                             name(begun.node), begun.size, begun.offset, options.name));
}

void DumpCheckers::on_landed(const SimUnit& unit, NodeId writer, const SimUnit::Landed& landed) {
  const bool header = begins_with(landed.bytes, header_magic);
  const bool chunk = begins_with(landed.bytes, chunk_magic);
  if (!header && !chunk) return;
  const bool place = header ? is_header_copy(landed.offset, landed.bytes.size())
                            : landed.offset >= disk::data_offset;
  const auto said = header && place ? coredump::decode_header(landed.bytes)
                                    : fail(ErrorCode::not_found, "no header");
  // Marking what nobody writes any more is not dumping.
  const bool dumps = chunk || (said && said->attribute == coredump::Attribute::active);
  const bool own = !dumps || writer == unit.options().owner;
  const auto& reservations = unit.reservations();
  const bool held =
      landed.aborting || !reservations.reservation() ||
      disk::belongs_to(reservations.holder_key(), writer, world_.config(writer).cluster);
  if (!is_dump_disk(unit.options().index) || !place || !own || !held) {
    return world_.violate(
        "I11", fmt::format("{} writes {} of a dump at {} of disk {}, which {} holds", name(writer),
                           header ? "a header" : "a chunk", landed.offset, unit.options().name,
                           disk::describe(reservations.holder_key())));
  }
  if (said) check_header(unit, writer, *said);
  if (chunk && !landed.aborting) check_chunk(unit, landed.bytes);
}

// C2; and C1, C8 of a dump that is called complete.
void DumpCheckers::check_header(const SimUnit& unit, NodeId writer,
                                const coredump::Header& header) {
  using coredump::Attribute;
  if (writer != unit.options().owner) return;
  const auto id = node::CoreFolder::id_of(header.boot_nonce);
  if (header.attribute == Attribute::active) {
    for (const auto& other : world_.shelf(writer)) {
      if (other.get() == &unit || !is_dump_disk(other->options().index)) continue;
      const auto there = header_of(*other, false);
      if (!there || there->attribute != Attribute::active ||
          there->boot_nonce != header.boot_nonce) {
        continue;
      }
      world_.violate("I11", fmt::format("C2: dump {} is active on disk {} and on disk {}", id,
                                        other->options().name, unit.options().name));
    }
  }
  if (header.attribute != Attribute::completed) return;
  const DumpedMemory* dumped = memory(id);
  const auto found = read_dump(unit, header);
  if (dumped != nullptr && found.complete && found.core == dumped->bytes) return;
  world_.violate("I11", fmt::format("C1, C8: dump {} on disk {} is called complete; {} of {} bytes "
                                    "of core are durable, and {}",
                                    id, unit.options().name, found.core.size(),
                                    dumped != nullptr ? dumped->bytes.size() : 0,
                                    found.complete ? "not what was in memory" : "no end chunk"));
}

// C1: both copies of the header say that it is there.
void DumpCheckers::check_chunk(const SimUnit& unit, Bytes chunk) {
  const auto said = coredump::decode_chunk_header(chunk.first(coredump::chunk_header_size));
  if (!said) return;
  for (int copy = 0; copy < coredump::header_copies; ++copy) {
    const disk::Area area = coredump::header_copy(copy);
    const auto header = coredump::decode_header(unit.stable().subspan(area.offset, area.size));
    if (header && header->boot_nonce == said->dump.boot_nonce) continue;
    world_.violate("I11", fmt::format("C1: a chunk of dump {} lands on disk {}; copy {} of the "
                                      "header does not speak of it",
                                      node::CoreFolder::id_of(said->dump.boot_nonce),
                                      unit.options().name, copy));
  }
}

// ---- what is said of dumps and takeovers ----

void DumpCheckers::on_trace(std::string_view who, std::string_view text) {
  if (who == "fault" || who == "operator") {
    const bool counts = text.find(of_coredump_disks) == std::string_view::npos;
    if (counts) fault_before_ = std::exchange(last_fault_, world_.now());
    return;
  }
  const auto is = [&](std::string_view phase) { return text.starts_with(phase); };
  // "coredump.saved: dump ID on DISK: ...", "coredump.removed: core ID ..."
  constexpr std::string_view saved = "coredump.saved: dump ", removed = "coredump.removed: core ";
  constexpr std::size_t id_size = 16;
  if (is(saved)) {
    const std::string id(text.substr(saved.size(), id_size));
    if (const auto* dumped = memory(id)) saved_[dumped->node.value()].insert(id);
  } else if (is(removed)) {
    for (auto& ids : saved_) ids.erase(std::string(text.substr(removed.size(), id_size)));
  }
}

// ---- by the clock: C3, C4 ----

void DumpCheckers::look() {
  if (world_.shape().dump_disks == 0) return;
  for (std::uint8_t n : {1, 2}) {
    look_at_service(NodeId(n));
    look_at_left_disks(NodeId(n));
  }
}

bool DumpCheckers::in_order(const SimUnit& unit, NodeId node) const {
  return unit.powered() && !unit.hanging() && !unit.path_cut(node) &&
         unit.faults.errors_until <= world_.now() && unit.faults.slow_until <= world_.now();
}

void DumpCheckers::look_at_service(NodeId dumping) {
  const NodeId survivor = partner_of(dumping);
  auto& panicked = panicked_[dumping.value()];
  if (!world_.node(dumping).engine_stands_still() ||
      world_.node(survivor).served(dumping).serving || world_.excused(dumping, "I18")) {
    panicked.reset();
    return;
  }
  const Instant now = world_.now();
  bool well = world_.node(survivor).awake() && !world_.node(dumping).standing_still();
  for (NodeId owner : {dumping, survivor}) {
    for (const auto& unit : world_.shelf(owner)) {
      if (!is_dump_disk(unit->options().index)) well = well && in_order(*unit, survivor);
    }
  }
  if (!panicked) {
    panicked = Panicked{.unserved_since = now, .quiet_until = {}};
    const bool alone = now - last_fault_ <= look_interval && now - fault_before_ > quiet;
    if (alone && world_.node(survivor).served(survivor).serving)
      panicked->quiet_until = last_fault_;
  }
  if (!well) panicked->unserved_since = now;
  panicked->unserved_since = std::max(panicked->unserved_since, last_fault_);
  if (!well || panicked->quiet_until != last_fault_) panicked->quiet_until.reset();
  const Duration unserved = now - panicked->unserved_since;
  if (unserved <= (panicked->quiet_until ? quick_limit : serve_limit)) return;
  world_.violate("I11b", fmt::format("the engine of {} stands still for its dump; for {} ms nobody "
                                     "serves for it",
                                     name(dumping), unserved / milliseconds(1)));
}

void DumpCheckers::look_at_left_disks(NodeId identity) {
  const NodeId survivor = partner_of(identity);
  const bool serves =
      world_.node(survivor).served(identity).serving && world_.node(survivor).awake();
  for (const auto& unit : world_.shelf(identity)) {
    const Place place{identity, unit->options().index};
    if (!is_dump_disk(place.second)) continue;
    const auto& reservations = unit->reservations();
    const bool left =
        serves && in_order(*unit, survivor) && reservations.reservation() &&
        !disk::belongs_to(reservations.holder_key(), survivor, world_.config(survivor).cluster);
    if (!left) {
      left_since_.erase(place);
      continue;
    }
    const Instant since = left_since_.try_emplace(place, world_.now()).first->second;
    if (world_.now() - since <= world_.shape().dump_limit + take_patience) continue;
    world_.violate("I11c",
                   fmt::format("{} serves {}; for {} ms it has not taken disk {}", name(survivor),
                               name(identity), (world_.now() - since) / milliseconds(1),
                               unit->options().name));
  }
}

}  // namespace duet::simulator
