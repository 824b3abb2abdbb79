// For tests: a pool with LUNs, files, volumes, snapshots and clones, and copies of all of them in
// memory to compare with. Orders about volumes are not in the log: after a crash the world looks
// which of them have happened.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pool/pool_test_bench.h"

namespace duet::pool {

inline constexpr VolumeId first_volume = Pool::first_volume;

struct FileCopy {
  std::vector<std::byte> bytes;
  std::uint16_t mode = 0;
};
using FileCopies = std::map<InodeNumber, std::shared_ptr<const FileCopy>>;

struct VolumeCopy {
  VolumeKind kind = VolumeKind::volume;
  VolumeId parent;  // of a snapshot or clone
  std::string name;
  FileCopies files;
  std::uint64_t quota = 0;  // bytes; as far as it was set here
};

class PoolTestWorld {
 public:
  static constexpr std::uint64_t file_blocks_max = 700;  // two levels

  explicit PoolTestWorld(PoolTestBench::Options options)
      : bench(options), random_(options.seed * 31 + 5) {
    volumes[first_volume].name = "vol0";
  }

  // ---- LUNs: their data are files of the first volume ----
  Status create_lun(std::uint64_t blocks) {
    auto inode = bench.pool->next_inode(first_volume);
    if (!inode) return std::unexpected(inode.error());
    auto lun = bench.create("lun" + std::to_string(++names_), blocks * block_size);
    if (!lun) return std::unexpected(lun.error());
    luns[*lun] = *inode;
    copy_lun(*lun);
    return {};
  }
  Status write_lun(LunNumber lun, std::uint64_t offset, std::uint64_t size) {
    if (auto status = bench.write(lun, offset, size); !status) return status;
    copy_lun(lun);
    return {};
  }
  Status zero_lun(LunNumber lun, std::uint64_t offset, std::uint64_t size) {
    if (auto status = bench.zero(lun, offset, size); !status) return status;
    copy_lun(lun);
    return {};
  }
  Status remove_lun(LunNumber lun) {
    if (auto status = bench.remove(lun); !status) return status;
    volumes.at(first_volume).files.erase(luns.at(lun));
    luns.erase(lun);
    noted();
    return {};
  }

  // ---- files ----
  Status create_file(VolumeId volume) {
    const std::uint16_t mode = static_cast<std::uint16_t>(random_.below(0777));
    auto made = std::make_shared<InodeNumber>();
    const auto create = [volume, mode, made](filesystem::View& view) -> Status {
      if (auto room = view.space(volume, 1); !room) return room;
      if (auto next = view.next_inode(volume); !next) return std::unexpected(next.error());
      const InodeNumber number = view.allocate_inode(volume);
      EXPECT_TRUE(*made == no_inode || *made == number);  // a replay gives the same
      *made = number;
      Inode inode;
      inode.type = filesystem::FileType::regular;
      inode.links = 1;
      inode.mode = mode;
      view.set_inode({volume, number}, inode);
      return {};
    };
    if (auto status = bench.run(create); !status) return status;
    volumes.at(volume).files[*made] = std::make_shared<FileCopy>(FileCopy{{}, mode});
    noted();
    return {};
  }
  // Offset and size: multiples of a sector.
  Status write_file(FileKey file, std::uint64_t offset, std::uint64_t size) {
    auto data = bench.random_data(size);
    const auto write = [=](filesystem::View& view) -> Status {
      if (auto room = view.space(file.volume, size / block_size + 2); !room) return room;
      auto inode = view.inode(file);
      if (!inode) return std::unexpected(inode.error());
      inode->size = std::max(inode->size, offset + size);
      view.set_inode(file, *inode);
      view.write(file, offset, data);
      return {};
    };
    if (auto status = bench.run(write); !status) return status;
    change(file, [&](FileCopy& copy) {
      if (copy.bytes.size() < offset + size) copy.bytes.resize(offset + size);
      std::ranges::copy(PoolTestBench::join(data),
                        copy.bytes.begin() + static_cast<std::ptrdiff_t>(offset));
    });
    return {};
  }
  // Within the file.
  Status zero_file(FileKey file, std::uint64_t offset, std::uint64_t size) {
    const auto zero = [=](filesystem::View& view) -> Status {
      if (auto room = view.space(file.volume, 0); !room) return room;
      if (auto inode = view.inode(file); !inode) return std::unexpected(inode.error());
      view.zero(file, offset, size);
      return {};
    };
    if (auto status = bench.run(zero); !status) return status;
    change(file, [&](FileCopy& copy) {
      std::fill_n(copy.bytes.begin() + static_cast<std::ptrdiff_t>(offset), size, std::byte{0});
    });
    return {};
  }
  // Some bytes of one block, in place.
  Status change_block(FileKey file, std::uint64_t number) {
    const auto value = static_cast<std::byte>(random_.next());
    const auto edit = [=](filesystem::View& view) -> Status {
      if (auto room = view.space(file.volume, 1); !room) return room;
      if (auto block = view.block(file, number); !block) return std::unexpected(block.error());
      std::ranges::fill(view.change_block(file, number).subspan(100, 700), value);
      return {};
    };
    if (auto status = bench.run(edit); !status) return status;
    change(file, [&](FileCopy& copy) {
      std::fill_n(copy.bytes.begin() + static_cast<std::ptrdiff_t>(number * block_size + 100), 700,
                  value);
    });
    return {};
  }
  Status truncate(FileKey file, std::uint64_t blocks) {
    const auto cut = [=](filesystem::View& view) -> Status {
      if (auto room = view.space(file.volume, 0); !room) return room;
      auto inode = view.inode(file);
      if (!inode) return std::unexpected(inode.error());
      inode->size = blocks * block_size;
      view.set_inode(file, *inode);
      view.zero(file, inode->size, filesystem::max_file_size - inode->size);
      return {};
    };
    if (auto status = bench.run(cut); !status) return status;
    change(file, [&](FileCopy& copy) { copy.bytes.resize(blocks * block_size); });
    return {};
  }
  Status remove_file(FileKey file) {
    const auto remove = [=](filesystem::View& view) -> Status {
      if (auto room = view.space(file.volume, 0); !room) return room;
      if (auto inode = view.inode(file); !inode) return std::unexpected(inode.error());
      view.set_inode(file, Inode{});
      return {};
    };
    if (auto status = bench.run(remove); !status) return status;
    volumes.at(file.volume).files.erase(file.inode);
    noted();
    return {};
  }

  // ---- orders: each is under way until done or the next recovery ----
  struct Order {
    enum class Kind {
      create,
      snapshot,
      clone,
      remove_volume,
      remove_snapshot,
      restore,
      limits
    } kind = Kind::create;
    VolumeId about;                // volume or snapshot
    VolumeId back_to;              // of restore
    std::uint64_t quota = 0;       // of limits
    std::string name;              // of what is made
    std::vector<FileCopies> seen;  // of a snapshot: one of them it shows
    std::optional<Result<VolumeId>> result;
    int number = 0;
    bool required = false;  // after a crash: it was done, so it has happened
  };
  void create_volume() {
    Order& order = begin(Order::Kind::create, {});
    bench.pool->create_volume(order.name, settles(order));
  }
  void create_snapshot(VolumeId volume) {
    Order& order = begin(Order::Kind::snapshot, volume);
    order.seen.push_back(volumes.at(volume).files);
    for (const Order& o : orders_) {  // what it may be taken back to before
      if (o.kind == Order::Kind::restore && o.about == volume) {
        order.seen.push_back(volumes.at(o.back_to).files);
      }
    }
    bench.pool->create_snapshot(volume, order.name, 0, settles(order));
  }
  void create_clone(VolumeId snapshot) {
    Order& order = begin(Order::Kind::clone, snapshot);
    bench.pool->create_clone(snapshot, order.name, settles(order));
  }
  void remove_volume(VolumeId volume) {
    Order& order = begin(Order::Kind::remove_volume, volume);
    bench.pool->delete_volume(volume, told(order));
  }
  void remove_snapshot(VolumeId snapshot) {
    Order& order = begin(Order::Kind::remove_snapshot, snapshot);
    bench.pool->delete_snapshot(snapshot, told(order));
  }
  void restore(VolumeId volume, VolumeId snapshot) {
    Order& order = begin(Order::Kind::restore, volume);
    order.back_to = snapshot;
    bench.pool->restore(volume, snapshot, told(order));
  }
  void set_limits(VolumeId volume, std::uint64_t quota) {
    Order& order = begin(Order::Kind::limits, volume);
    order.quota = quota;
    bench.pool->set_limits(volume, quota, 0, told(order));
  }
  // May the volume, or snapshot, be changed or named in an order just now?
  bool busy(VolumeId volume) const {
    return std::ranges::any_of(orders_, [&](const Order& o) {
      return o.kind != Order::Kind::snapshot && (o.about == volume || o.back_to == volume);
    });
  }
  bool has_orders() const { return !orders_.empty(); }
  // Takes notice of the orders that are done.
  void collect() {
    for (auto it = orders_.begin(); it != orders_.end();) {
      if (!it->result) {
        ++it;
        continue;
      }
      const Order order = *it;
      if (*order.result) {
        happened(order, **order.result);
      } else {
        const ErrorCode code = order.result->error().code;
        EXPECT_TRUE(code == ErrorCode::refused || code == ErrorCode::cancelled ||
                    code == ErrorCode::not_found)
            << order.result->error().message;
      }
      if (!bench.power.on()) return;  // looked at again after the recovery
      it = orders_.erase(it);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
  // Until all orders are done.
  void wait() {
    EXPECT_TRUE(bench.scheduler.run_until([&] {
      return !bench.power.on() ||
             std::ranges::all_of(orders_, [](const Order& o) { return o.result.has_value(); });
    })) << bench.pool->health();
    collect();
  }

  // ---- crashes ----
  // To be called before the pool goes.
  void crash() {
    collect();
    for (Order& order : orders_) interrupted_.push_back(std::move(order));
    bench.crash();  // tells the orders that they are cancelled
    bench.scheduler.run_all();
    orders_.clear();
  }
  // The pool is open, and everything replayed: what has become of the orders?
  void look_what_happened() {
    const auto reports = bench.pool->volumes();
    const auto find = [&](auto matches) -> const VolumeReport* {
      auto found = std::ranges::find_if(reports, matches);
      return found == reports.end() ? nullptr : &*found;
    };
    for (Order& order : std::exchange(interrupted_, {})) {
      const VolumeReport* by_name =
          find([&](const VolumeReport& r) { return r.name == order.name; });
      const VolumeReport* by_id = find([&](const VolumeReport& r) { return r.id == order.about; });
      bool seen = false;
      switch (order.kind) {
        case Order::Kind::create:
        case Order::Kind::snapshot:
        case Order::Kind::clone:
          seen = by_name != nullptr;
          break;
        case Order::Kind::remove_volume:
          seen = by_id == nullptr;
          break;
        case Order::Kind::remove_snapshot:
          seen = by_id == nullptr || by_id->deleting;
          break;
        case Order::Kind::restore:
          seen = order.required || !same(order.about, volumes.at(order.about).files);
          break;
        case Order::Kind::limits:
          seen = by_id != nullptr && by_id->quota == order.quota;
          break;
      }
      ASSERT_TRUE(seen || !order.required)
          << "what was done is undone: order " << static_cast<int>(order.kind);
      if (seen) happened(order, by_name == nullptr ? VolumeId{} : by_name->id);
      if (testing::Test::HasFatalFailure()) return;
    }
  }

  // ---- going on elsewhere ----
  // What a world remembers; its disks are not part of it.
  struct Memory {
    Model model;
    std::vector<std::pair<LogPosition, LogRecord>> log;
    std::map<LogSequence, PoolTestBench::Operation> operations;
    LogSequence contained;
    std::vector<Slice> stripe_records;
    std::map<VolumeId, VolumeCopy> volumes;
    std::map<LunNumber, InodeNumber> luns;
    int names = 0;
    std::list<Order> orders;
  };
  Memory memory() const {
    return {bench.model, bench.log, bench.operations, bench.contained, bench.stripe_records,
            volumes,     luns,      names_,           orders_};
  }
  // Of another world that crashed; its orders are now to be looked for. What is large is moved to
  // and fro.
  void recall(Memory& memory) {
    exchange(memory);
    bench.contained = memory.contained;
    bench.stripe_records = memory.stripe_records;
    volumes = memory.volumes;
    luns = memory.luns;
    names_ = memory.names;
    interrupted_.assign(memory.orders.begin(), memory.orders.end());
  }
  void exchange(Memory& memory) {
    std::swap(bench.model, memory.model);
    std::swap(bench.log, memory.log);
    std::swap(bench.operations, memory.operations);
  }
  // ---- comparing ----
  void verify() {
    bench.verify();
    std::map<VolumeId, VolumeReport> reports;
    for (auto& r : bench.pool->volumes()) {
      if (!r.deleting) reports[r.id] = r;
    }
    ASSERT_EQ(reports.size(), volumes.size());
    for (const auto& [id, copy] : volumes) {
      ASSERT_TRUE(reports.contains(id)) << copy.name;
      ASSERT_EQ(reports[id].name, copy.name);
      ASSERT_EQ(reports[id].kind, copy.kind);
      ASSERT_EQ(reports[id].parent, copy.parent) << copy.name;
      if (copy.quota != 0) ASSERT_EQ(reports[id].quota, copy.quota) << copy.name;
      ASSERT_TRUE(same(id, copy.files)) << copy.name << ": " << difference_;
    }
  }
  // Have these files these contents in the image? (It may have more.)
  bool same(VolumeId volume, const FileCopies& files) {
    difference_.clear();
    for (const auto& [number, copy] : files) {
      auto bytes = read({volume, number}, copy->bytes.size());
      std::optional<std::size_t> differs;
      if (bytes) differs = PoolTestBench::differs(bytes->first, copy->bytes);
      if (!bytes) {
        difference_ = "inode " + std::to_string(number.value()) + ": " + bytes.error().message;
      } else if (differs) {
        difference_ = "inode " + std::to_string(number.value()) + " at " + std::to_string(*differs);
      } else if (bytes->second.size != copy->bytes.size()) {
        difference_ = "size of inode " + std::to_string(number.value());
      } else if (bytes->second.mode != copy->mode) {
        difference_ = "mode of inode " + std::to_string(number.value());
      }
      if (!difference_.empty()) return false;
    }
    return true;
  }
  Result<std::pair<std::vector<Slice>, Inode>> read(FileKey file, std::uint64_t size) {
    std::pair<std::vector<Slice>, Inode> found;
    auto status = bench.wait([&](auto done) {
      bench.pool->run(
          [&](filesystem::View& view) -> Status {
            auto inode = view.inode(file);
            if (!inode) return std::unexpected(inode.error());
            found.second = *inode;
            return {};
          },
          std::move(done));
    });
    if (!status) return std::unexpected(status.error());
    if (size == 0) return found;
    std::optional<Result<std::vector<Slice>>> result;
    bench.pool->read_file(file, 0, size, [&](auto r) { result = std::move(r); });
    if (!bench.scheduler.run_until([&] { return result.has_value(); })) {
      return fail(ErrorCode::timed_out, "no answer");
    }
    if (!*result) return std::unexpected(result->error());
    found.first = std::move(**result);
    return found;
  }

  PoolTestBench bench;
  std::map<VolumeId, VolumeCopy> volumes;  // and snapshots
  std::map<LunNumber, InodeNumber> luns;
  std::function<void(int order, bool done)> on_answer;

 private:
  Order& begin(Order::Kind kind, VolumeId about) {
    Order& order = orders_.emplace_back();
    order.kind = kind;
    order.about = about;
    order.name = "v" + std::to_string(++names_);
    order.number = names_;
    return order;
  }
  ports::Done<VolumeId> settles(Order& order) {
    return [this, &order](Result<VolumeId> result) {
      if (on_answer) on_answer(order.number, result.has_value());
      order.result = std::move(result);
    };
  }
  ports::Done<void> told(Order& order) {
    return [settle = settles(order)](Status status) mutable {
      if (!status) return settle(std::unexpected(status.error()));
      settle(VolumeId{});
    };
  }
  void happened(const Order& order, VolumeId made) {
    switch (order.kind) {
      case Order::Kind::create:
        volumes[made].name = order.name;
        break;
      case Order::Kind::snapshot: {
        VolumeCopy copy{VolumeKind::snapshot, order.about, order.name, {}, 0};
        // Everything before the order is in it, and perhaps some of what came until it was done.
        auto shown = std::ranges::find_if(order.seen.rbegin(), order.seen.rend(),
                                          [&](const FileCopies& f) { return same(made, f); });
        if (!bench.power.on()) return;  // nothing can be read now
        ASSERT_NE(shown, order.seen.rend())
            << "snapshot " << order.name << " shows no state: " << difference_;
        copy.files = *shown;
        volumes[made] = std::move(copy);
        break;
      }
      case Order::Kind::clone: {
        VolumeCopy copy = volumes.at(order.about);
        copy.kind = VolumeKind::volume;
        copy.parent = order.about;
        copy.name = order.name;
        volumes[made] = std::move(copy);
        break;
      }
      case Order::Kind::remove_volume:
      case Order::Kind::remove_snapshot:
        volumes.erase(order.about);
        break;
      case Order::Kind::restore:
        volumes.at(order.about).files = volumes.at(order.back_to).files;
        break;
      case Order::Kind::limits:
        volumes.at(order.about).quota = order.quota;
        break;
    }
  }
  void change(FileKey file, const std::function<void(FileCopy&)>& how) {
    auto& slot = volumes.at(file.volume).files.at(file.inode);
    auto copy = std::make_shared<FileCopy>(*slot);
    how(*copy);
    slot = std::move(copy);
    noted();
  }
  void copy_lun(LunNumber lun) {
    volumes.at(first_volume).files[luns.at(lun)] =
        std::make_shared<FileCopy>(FileCopy{bench.model.at(lun).bytes, 0});
    noted();
  }
  // Something has changed: a snapshot that is being made may show it.
  void noted() {
    for (Order& order : orders_) {
      if (order.kind != Order::Kind::snapshot || order.result) continue;
      order.seen.push_back(volumes.at(order.about).files);
    }
  }

  simulation::Random random_;
  int names_ = 0;
  std::list<Order> orders_;
  std::vector<Order> interrupted_;
  std::string difference_;
};

}  // namespace duet::pool
