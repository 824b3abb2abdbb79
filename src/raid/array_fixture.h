// A pool in miniature over disks in memory: consistency points of random blocks, a superblock in
// fixed blocks, an NVRAM for the stripe journal, and a map of what every block must hold.
#pragma once

#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "raid/array.h"
#include "simulation/fake_disk.h"
#include "simulation/scheduler.h"

namespace duet::raid {

inline DiskId disk_id(std::uint8_t number) {
  DiskId id;
  id.bytes.fill(number);
  return id;
}

inline Layout make_layout(std::uint32_t data, Protection protection, std::uint64_t blocks) {
  Layout layout;
  layout.groups.push_back({protection, blocks});
  const std::uint32_t columns = data + parity_count(protection);
  for (std::uint32_t i = 0; i < columns; ++i) {
    const bool parity = i >= data;
    layout.members.push_back({disk_id(static_cast<std::uint8_t>(i + 1)), 0, parity,
                              static_cast<std::uint8_t>(parity ? i - data : i),
                              MemberState::in_sync, 0});
  }
  return layout;
}

inline Slice block_of(std::uint64_t content) {
  auto buffer = make_buffer(block_size);
  simulation::Random random(content + 1);
  for (std::size_t i = 0; i < block_size; i += 8) {
    store_le<std::uint64_t>(buffer.bytes.data() + i, random.next());
  }
  return buffer.slice();
}

enum class Nvram : std::uint8_t { absent, takes, refuses, loses };

struct Pool {
  static constexpr std::uint64_t data_offset = 8192;
  using Contents = std::map<BlockAddress, std::uint64_t>;  // address -> what block_of() makes

  Pool(std::uint32_t data, Protection protection, std::uint64_t rows = 40, std::uint32_t spares = 0,
       std::uint64_t random_seed = 1)
      : seed(random_seed), layout(make_layout(data, protection, reserved_blocks + rows)) {
    for (std::uint32_t i = 0; i < layout.members.size() + spares; ++i) add_medium();
    for (std::uint32_t i = 0; i < spares; ++i) {
      layout.spares.push_back(disk_id(static_cast<std::uint8_t>(layout.members.size() + i + 1)));
    }
    history[0] = {};
    // Each disk is a megabyte: let the next run have the memory of the last.
    static const int reuse =
        mallopt(M_MMAP_THRESHOLD, 64 << 20) + mallopt(M_TRIM_THRESHOLD, 1 << 30);
    static_cast<void>(reuse);
  }
  ~Pool() {
    array.reset();
    paths.clear();
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Disk number i has id i + 1.
  std::size_t add_medium() {
    simulation::FakeMedium::Options options;
    options.name = "disk/" + std::to_string(media.size() + 1);
    options.size = data_offset + layout.groups[0].blocks * block_size;
    options.seed = seed * 100 + media.size();
    media.push_back(std::make_unique<simulation::FakeMedium>(scheduler, options, &power));
    paths.push_back(media.back()->connect());
    return media.size() - 1;
  }
  Array::Disk disk(std::size_t number) {
    return {disk_id(static_cast<std::uint8_t>(number + 1)), paths[number].get(), data_offset};
  }

  // A boot: new paths, the superblock that is found, recovery.
  void boot(bool new_pool = false) {
    array.reset();
    ++boots;
    for (std::size_t i = 0; i < media.size(); ++i) paths[i] = media[i]->connect();
    pending.clear();
    if (!new_pool) read_superblock();
    Array::Options options;
    options.layout = layout;
    options.patience = patience;
    options.rebuild_rate = 0;
    for (std::size_t i = 0; i < media.size(); ++i) {
      if (!absent.contains(i)) options.disks.push_back(disk(i));
    }
    Array::Owner owner;
    owner.live = [this](BlockAddress address) {
      return committed.contains(address) || pending.contains(address);
    };
    if (nvram != Nvram::absent) {
      owner.journal = [this](DataBytes record, ports::Done<void> done) {
        keep(std::move(record), std::move(done));
      };
    }
    owner.claim = claim;
    owner.spare_missed = spare_missed;
    owner.layout_changed = [this] { ++layout_changes; };
    owner.event = [this](const std::string& text) { events.push_back(text); };
    owner.fenced = [this](const std::string&) { fenced = true; };
    array = std::make_unique<Array>(scheduler, std::move(options), std::move(owner));
    array->set_automatic_spares(automatic_spares);
  }
  void keep(DataBytes record, ports::Done<void> done) {
    Status status;
    if (nvram == Nvram::refuses) status = fail(ErrorCode::refused, "not now");
    if (nvram == Nvram::takes) records.push_back(std::move(record));
    scheduler.post([done = std::move(done), status]() mutable { done(status); });
  }

  template <class Start>
  Status wait(Start start) {
    auto result = std::make_shared<std::optional<Status>>();
    start([result](Result<void> status) {
      EXPECT_FALSE(result->has_value());
      *result = std::move(status);
    });
    EXPECT_TRUE(
        scheduler.run_until([&] { return result->has_value() || !power.on(); }, seconds(600)));
    if (!power.on()) return fail(ErrorCode::disconnected, "the power is off");
    if (!result->has_value()) return fail(ErrorCode::timed_out, "never");
    return **result;
  }

  void create() {
    boot(true);
    ASSERT(wait([&](ports::Done<void> done) { array->format(std::move(done)); }).has_value());
    ASSERT(commit().has_value());
  }
  Status recover() {
    std::vector<Slice> slices;
    for (const auto& record : records) slices.push_back(copy_to_slice(record));
    auto status = wait([&](ports::Done<void> done) {
      array->recover(generation, std::move(slices), std::move(done));
    });
    if (!status) return status;
    const auto reports = array->report();
    const bool all = std::ranges::all_of(reports, [](const MemberReport& r) { return r.present; });
    if (all || !skips_generation) return {};
    // A disk that is away may bear the superblock of the next generation, and nobody else. It must
    // never count again. An odd step, so that the superblock in force is not the one overwritten.
    generation += 2;
    return commit();
  }
  Status reopen() {
    boot();
    return recover();
  }

  BlockAddress at(std::uint32_t member, std::uint64_t row) const {
    return BlockAddress(member, reserved_blocks + row);
  }
  // New contents for these blocks, which must be free, in one call.
  Status write(const std::vector<BlockAddress>& addresses) {
    std::vector<BlockWrite> blocks;
    for (const BlockAddress& address : addresses) {
      pending[address] = ++last_content;
      blocks.push_back({address, block_of(last_content)});
    }
    return wait([&](ports::Done<void> done) {
      array->write(generation + 1, std::move(blocks), std::move(done));
    });
  }
  Status write_again(const std::vector<BlockAddress>& addresses) {
    std::vector<BlockWrite> blocks;
    for (const BlockAddress& address : addresses) {
      blocks.push_back({address, block_of(pending.at(address))});
    }
    return wait([&](ports::Done<void> done) {
      array->write(generation + 1, std::move(blocks), std::move(done));
    });
  }
  Status flush() {
    return wait([&](ports::Done<void> done) { array->flush(std::move(done)); });
  }

  Slice superblock(std::uint64_t number) const {
    ByteWriter out;
    out.put(std::uint32_t{0});
    out.put(number);
    encode(array->layout(), out);
    auto bytes = out.take();
    ASSERT(bytes.size() <= block_size);
    auto buffer = make_buffer(block_size);
    std::ranges::copy(bytes, buffer.bytes.begin());
    store_le(buffer.bytes.data(), crc32c(buffer.bytes.subspan(4)));
    return buffer.slice();
  }
  // Ends the consistency point: flush, superblock.
  Status commit() {
    if (auto status = flush(); !status) return status;
    Contents next = committed;
    for (const BlockAddress& address : freed) next.erase(address);
    for (const auto& [address, content] : pending) next[address] = content;
    history[generation + 1] = next;
    for (int tries = 0; tries < 10; ++tries) {
      auto status = wait([&](ports::Done<void> done) {
        array->write_everywhere((generation + 1) % 2, superblock(generation + 1), std::move(done));
      });
      if (!status && status.error().code == ErrorCode::busy) continue;
      if (!status) return status;
      ++generation;
      committed = next;
      layout = array->layout();
      pending.clear();
      freed.clear();
      records.clear();
      return {};
    }
    return fail(ErrorCode::busy, "the layout changes for ever");
  }
  void read_superblock() {
    std::uint64_t best = 0;
    std::optional<Layout> found;
    for (std::size_t i = 0; i < media.size(); ++i) {
      if (absent.contains(i)) continue;
      for (std::uint64_t block : {0, 1}) {
        const auto bytes = media[i]->peek(data_offset + block * block_size, block_size);
        const Bytes view(bytes);
        if (load_le<std::uint32_t>(view.data()) != crc32c(view.subspan(4))) continue;
        ByteReader in(view.subspan(4));
        const auto number = in.get<std::uint64_t>();
        auto decoded = decode_layout(in);
        if (decoded && number >= best) {
          best = number;
          found = *decoded;
        }
      }
    }
    ASSERT(found.has_value());
    generation = best;
    layout = *found;
    committed = history.at(best);
    freed.clear();
  }

  // Reads these blocks in one call and compares.
  Status check(const std::vector<BlockAddress>& addresses) {
    const Contents& all = committed;
    auto buffer = make_buffer(addresses.size() * block_size);
    std::vector<BlockRead> reads;
    std::vector<Slice> expected;
    for (std::size_t i = 0; i < addresses.size(); ++i) {
      auto found = pending.find(addresses[i]);
      const auto content = found != pending.end() ? found->second : all.at(addresses[i]);
      expected.push_back(block_of(content));
      reads.push_back({addresses[i], crc32c(expected.back().bytes),
                       buffer.bytes.subspan(i * block_size, block_size)});
    }
    auto status = wait([&](ports::Done<void> done) { array->read(reads, std::move(done)); });
    if (!status) return status;
    for (std::size_t i = 0; i < addresses.size(); ++i) {
      EXPECT_TRUE(std::ranges::equal(reads[i].into, expected[i].bytes))
          << addresses[i].member() << ":" << addresses[i].block();
    }
    return {};
  }
  Status check_all() {
    std::vector<BlockAddress> addresses;
    for (const auto& [address, content] : committed) addresses.push_back(address);
    if (auto status = check(addresses); !status) return status;
    return {};
  }
  std::vector<std::byte> peek(std::uint32_t member, std::uint64_t row) {
    const DiskId id = array->layout().members[member].disk;
    return media[id.bytes[0] - 1u]->peek(data_offset + (reserved_blocks + row) * block_size,
                                         block_size);
  }
  void damage(std::uint32_t member, std::uint64_t row) {
    auto bytes = peek(member, row);
    for (std::size_t i = 0; i < bytes.size(); i += 512) bytes[i] ^= std::byte{0x5a};
    const DiskId id = array->layout().members[member].disk;
    media[id.bytes[0] - 1u]->poke(data_offset + (reserved_blocks + row) * block_size, bytes);
  }

  std::uint64_t seed = 1;
  simulation::SimulatedScheduler scheduler;
  simulation::PowerSupply power;
  Layout layout;  // of the superblock
  std::vector<std::unique_ptr<simulation::FakeMedium>> media;
  std::vector<std::unique_ptr<simulation::FakeDisk>> paths;
  std::set<std::size_t> absent;  // media that the next boot does not find
  std::unique_ptr<Array> array;
  Nvram nvram = Nvram::absent;
  bool automatic_spares = false;
  bool skips_generation = true;
  Duration patience = seconds(2);
  std::vector<DataBytes> records;  // in the NVRAM
  std::uint64_t generation = 0;    // of the superblock
  Contents committed;
  Contents pending;              // of the consistency point under way
  std::set<BlockAddress> freed;  // by it
  std::map<std::uint64_t, Contents> history;
  std::uint64_t last_content = 0;
  std::function<void(const Array::Disk&, ports::Done<void>)> claim;
  std::function<void(DiskId)> spare_missed;
  int boots = 0;
  int layout_changes = 0;
  bool fenced = false;
  std::vector<std::string> events;
};

}  // namespace duet::raid
