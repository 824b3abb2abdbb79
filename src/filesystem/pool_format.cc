#include "filesystem/pool_format.h"

#include <algorithm>
#include <bit>
#include <set>

#include "base/assert.h"
#include "base/crc32c.h"

namespace duet::filesystem {
namespace {

constexpr std::string_view pool_magic = "DUETPOOL";
constexpr std::string_view table_magic = "DUETLUNS";
constexpr std::uint32_t pool_version = 1;
constexpr std::size_t crc_offset = 12;
constexpr std::size_t entry_header_size = 32;
constexpr std::size_t extent_entry_size = 16;

std::unexpected<Error> bad(std::string what) {
  return fail(ErrorCode::invalid, "pool metadata: " + std::move(what));
}

bool has_magic(Bytes bytes, std::string_view magic) {
  return bytes.size() >= magic.size() &&
         std::ranges::equal(bytes.first(magic.size()), std::as_bytes(std::span(magic)));
}

// CRC of the block as if its CRC field were zero.
std::uint32_t block_crc(Bytes block) {
  static constexpr std::array<std::byte, 4> zero{};
  std::uint32_t crc = crc32c(block.first(crc_offset));
  crc = crc32c_extend(crc, zero);
  return crc32c_extend(crc, block.subspan(crc_offset + zero.size()));
}

void put_id(ByteWriter& writer, const std::array<std::uint8_t, 16>& id) {
  writer.put_bytes(std::as_bytes(std::span(id)));
}
std::array<std::uint8_t, 16> get_id(ByteReader& reader) {
  std::array<std::uint8_t, 16> id{};
  Bytes bytes = reader.get_bytes(id.size());
  if (!bytes.empty()) std::memcpy(id.data(), bytes.data(), id.size());
  return id;
}

Status check_geometry(const PoolGeometry& g) {
  if (g.extent_size < min_extent_size || g.extent_size > max_extent_size ||
      !std::has_single_bit(g.extent_size)) {
    return bad("extent size");
  }
  if (g.table_slot_size == 0 || g.table_slot_size % block_size != 0 ||
      g.table_slot_size > disk::max_disk_size) {
    return bad("size of a table slot");
  }
  if (g.extents_offset % table_area_offset != 0 || g.extents_offset > disk::max_disk_size ||
      g.extents_offset < table_area_offset + 2 * g.table_slot_size) {
    return bad("offset of the extents");
  }
  if (g.extents() > max_pool_extents) return bad("too many extents");
  for (std::size_t i = 0; i < g.disks.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (g.disks[i].id == g.disks[j].id) return bad("a disk twice");
    }
  }
  return {};
}

Status check_superblock(const Superblock& s) {
  if (auto status = check_geometry(s.geometry); !status) return status;
  if (s.generation == 0) return bad("generation");
  if (s.table_generation == 0 || s.table_generation > s.generation) return bad("table generation");
  if (s.table_slot > 1) return bad("table slot");
  if (s.table_size < table_header_size() || s.table_size > s.geometry.table_slot_size) {
    return bad("table size");
  }
  return {};
}

}  // namespace

std::size_t PoolGeometry::extents() const {
  std::size_t sum = 0;
  for (const PoolMember& member : disks) sum += member.extents;
  return sum;
}

std::vector<std::byte> encode_superblock(const Superblock& s) {
  const PoolGeometry& g = s.geometry;
  ASSERT(!g.disks.empty() && g.disks.size() <= max_pool_disks);
  ByteWriter w;
  w.put_bytes(std::as_bytes(std::span(pool_magic)));
  w.put(pool_version);
  w.put(std::uint32_t{0});
  put_id(w, g.pool);
  w.put(s.generation);
  w.put(s.epoch.value());
  w.put_bytes(nvlog::encode(s.position));
  w.put(s.table_generation);
  w.put(s.table_slot);
  w.put(s.table_crc);
  w.put(s.table_size);
  w.put(s.luns_created);
  w.put(g.extent_size);
  w.put(static_cast<std::uint32_t>(g.disks.size()));
  w.put(g.table_slot_size);
  w.put(g.extents_offset);
  w.put(std::uint64_t{0});
  for (const PoolMember& member : g.disks) {
    put_id(w, member.id.bytes);
    w.put(member.extents);
    w.put(std::uint32_t{0});
  }
  std::vector<std::byte> block = w.take();
  block.resize(block_size);
  store_le(block.data() + crc_offset, block_crc(block));
  return block;
}

Result<Superblock> decode_superblock(Bytes block) {
  if (block.size() != block_size) return bad("size of a superblock");
  if (!has_magic(block, pool_magic)) return fail(ErrorCode::not_found, "no pool superblock");
  ByteReader r(block.subspan(pool_magic.size()));
  auto version = r.get<std::uint32_t>();
  if (r.get<std::uint32_t>() != block_crc(block)) return bad("superblock is damaged");
  if (version != pool_version) {
    return fail(ErrorCode::unsupported_version,
                "pool metadata of version " + std::to_string(version));
  }
  Superblock s;
  s.geometry.pool = get_id(r);
  s.generation = r.get<std::uint64_t>();
  s.epoch = Epoch(r.get<std::uint64_t>());
  auto position = nvlog::decode_position(r.get_bytes(nvlog::position_size));
  if (!position) return std::unexpected(position.error());
  s.position = *position;
  s.table_generation = r.get<std::uint64_t>();
  s.table_slot = r.get<std::uint32_t>();
  s.table_crc = r.get<std::uint32_t>();
  s.table_size = r.get<std::uint64_t>();
  s.luns_created = r.get<std::uint64_t>();
  s.geometry.extent_size = r.get<std::uint32_t>();
  auto disks = r.get<std::uint32_t>();
  s.geometry.table_slot_size = r.get<std::uint64_t>();
  s.geometry.extents_offset = r.get<std::uint64_t>();
  if (r.get<std::uint64_t>() != 0) return bad("unused field");
  if (disks == 0 || disks > max_pool_disks) return bad("number of disks");
  for (std::uint32_t i = 0; i < disks; ++i) {
    PoolMember member;
    member.id.bytes = get_id(r);
    member.extents = r.get<std::uint32_t>();
    if (r.get<std::uint32_t>() != 0) return bad("unused field");
    s.geometry.disks.push_back(member);
  }
  ASSERT(r.ok());  // 64 disks fit in a block
  if (auto status = check_superblock(s); !status) return std::unexpected(status.error());
  return s;
}

std::size_t table_header_size() {
  return 40;
}

std::size_t table_entry_size(const LunInfo& info, std::size_t extents) {
  return entry_header_size + info.name.size() + info.serial.size() + info.offline.size() +
         info.reservations.size() + extents * extent_entry_size;
}

std::vector<std::byte> encode_lun_table(const Superblock& superblock,
                                        const std::vector<const LunEntry*>& luns) {
  ByteWriter w;
  w.put_bytes(std::as_bytes(std::span(table_magic)));
  w.put(pool_version);
  w.put(static_cast<std::uint32_t>(luns.size()));
  w.put(superblock.table_generation);
  put_id(w, superblock.geometry.pool);
  for (const LunEntry* entry : luns) {
    const LunInfo& info = entry->info;
    ASSERT(info.offline.size() <= max_offline_reason);
    w.put(info.number.value());
    w.put(static_cast<std::uint8_t>(info.name.size()));
    w.put(static_cast<std::uint8_t>(info.serial.size()));
    w.put(static_cast<std::uint16_t>(info.offline.size()));
    w.put(static_cast<std::uint16_t>(info.reservations.size()));
    w.put(info.size);
    w.put(info.naa);
    w.put(static_cast<std::uint32_t>(entry->extents.size()));
    w.put(std::uint32_t{0});
    w.put_bytes(std::as_bytes(std::span(info.name)));
    w.put_bytes(std::as_bytes(std::span(info.serial)));
    w.put_bytes(std::as_bytes(std::span(info.offline)));
    w.put_bytes(info.reservations);
    for (const ExtentPlace& place : entry->extents) {
      w.put(place.disk);
      w.put(std::uint16_t{0});
      w.put(place.extent);
      w.put(place.initialised);
    }
  }
  return w.take();
}

namespace {

std::string get_text(ByteReader& r, std::size_t size) {
  Bytes bytes = r.get_bytes(size);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Checks everything that concerns this LUN alone.
Result<LunEntry> decode_entry(ByteReader& r, const PoolGeometry& geometry) {
  LunEntry entry;
  LunInfo& info = entry.info;
  info.number = LunNumber(r.get<std::uint16_t>());
  std::size_t name_size = r.get<std::uint8_t>();
  std::size_t serial_size = r.get<std::uint8_t>();
  std::size_t offline_size = r.get<std::uint16_t>();
  std::size_t reservations_size = r.get<std::uint16_t>();
  info.size = r.get<std::uint64_t>();
  info.naa = r.get<std::uint64_t>();
  std::uint64_t extents = r.get<std::uint32_t>();
  if (r.get<std::uint32_t>() != 0) return bad("unused field");
  if (offline_size > max_offline_reason || reservations_size > max_reservation_state) {
    return bad("length of a LUN's attributes");
  }
  info.name = get_text(r, name_size);
  info.serial = get_text(r, serial_size);
  info.offline = get_text(r, offline_size);
  Bytes reservations = r.get_bytes(reservations_size);
  info.reservations.assign(reservations.begin(), reservations.end());
  if (!r.ok() || r.remaining() / extent_entry_size < extents) return bad("LUN table too short");
  if (info.number.value() > max_lun_number) return bad("LUN number");
  if (!valid_lun_name(info.name)) return bad("name of a LUN");
  if (!valid_lun_serial(info.serial)) return bad("serial of a LUN");
  if (info.size == 0 || info.size > max_lun_size || info.size % block_size != 0) {
    return bad("size of LUN " + info.name);
  }
  if (extents != (info.size + geometry.extent_size - 1) / geometry.extent_size) {
    return bad("number of extents of LUN " + info.name);
  }
  entry.extents.reserve(extents);
  for (std::uint64_t i = 0; i < extents; ++i) {
    ExtentPlace place;
    place.disk = r.get<std::uint16_t>();
    if (r.get<std::uint16_t>() != 0) return bad("unused field");
    place.extent = r.get<std::uint32_t>();
    place.initialised = r.get<std::uint64_t>();
    if (place.disk >= geometry.disks.size() || place.extent >= geometry.disks[place.disk].extents) {
      return bad("an extent of LUN " + info.name + " lies outside the pool");
    }
    entry.extents.push_back(place);
  }
  return entry;
}

}  // namespace

Result<std::vector<LunEntry>> decode_lun_table(const Superblock& superblock, Bytes table) {
  if (table.size() != superblock.table_size || crc32c(table) != superblock.table_crc) {
    return bad("LUN table is damaged");
  }
  if (!has_magic(table, table_magic)) return bad("magic of the LUN table");
  ByteReader r(table.subspan(table_magic.size()));
  if (r.get<std::uint32_t>() != pool_version) return bad("version of the LUN table");
  auto count = r.get<std::uint32_t>();
  if (r.get<std::uint64_t>() != superblock.table_generation) {
    return bad("generation of the LUN table");
  }
  if (get_id(r) != superblock.geometry.pool) return bad("pool id of the LUN table");
  if (count > max_luns) return bad("number of LUNs");
  const PoolGeometry& geometry = superblock.geometry;
  std::vector<std::vector<bool>> used;
  for (const PoolMember& member : geometry.disks) used.emplace_back(member.extents);
  std::set<std::string> names;
  std::vector<LunEntry> luns;
  for (std::uint32_t i = 0; i < count; ++i) {
    auto entry = decode_entry(r, geometry);
    if (!entry) return std::unexpected(entry.error());
    if (!luns.empty() && entry->info.number <= luns.back().info.number) {
      return bad("order of the LUNs");
    }
    if (!names.insert(entry->info.name).second)
      return bad("LUN name " + entry->info.name + " twice");
    for (const ExtentPlace& place : entry->extents) {
      if (used[place.disk][place.extent]) return bad("an extent of two LUNs");
      used[place.disk][place.extent] = true;
    }
    luns.push_back(std::move(*entry));
  }
  if (!r.ok() || r.remaining() != 0) return bad("length of the LUN table");
  return luns;
}

}  // namespace duet::filesystem
