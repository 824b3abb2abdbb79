#include "initialize.h"

#include <fmt/format.h>

#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "disk/areas.h"
#include "disk/label.h"
#include "disk/reservation_key.h"
#include "ha/events.h"
#include "ha/mailbox.h"
#include "platform/event_loop.h"
#include "platform/iscsi_disk.h"
#include "pool/pool.h"

namespace duet::cli {
namespace {

constexpr Duration connect_limit = seconds(10);
constexpr Duration step_limit = seconds(60);

std::array<std::uint8_t, 16> random_id() {
  std::random_device random;
  std::array<std::uint8_t, 16> id;
  for (auto& b : id) b = static_cast<std::uint8_t>(random());
  return id;
}

// One disk after the other and one step after the other: nothing else is going on.
class Initializer {
 public:
  Initializer(const node::Config& config, const InitializeOptions& options)
      : config_(config), options_(options) {}

  Result<std::string> run() {
    for (auto step :
         {&Initializer::connect, &Initializer::check, &Initializer::plan,
          &Initializer::write_labels, &Initializer::write_pool, &Initializer::write_mailbox}) {
      if (auto done = (this->*step)(); !done) return std::unexpected(done.error());
    }
    return fmt::format("{} disks of {} labelled, pool '{}' of {}, mailbox on {} disks\n",
                       disks_.size(), config_.name_of(config_.self), config_.name_of(config_.self),
                       describe(), mailbox_disk_count());
  }

 private:
  // Runs the loop until the operation has called back.
  template <class T, class Start>
  Result<T> wait(Start start) {
    std::optional<Result<T>> result;
    start([&](Result<T> r) { result = std::move(r); });
    if (!loop_.run_until([&] { return result.has_value(); }, step_limit)) {
      return fail(ErrorCode::timed_out, "a disk does not answer");
    }
    return std::move(*result);
  }

  Status connect() {
    const auto& shelf = config_.shelves[config_.self.value()];
    for (auto lun : shelf.luns) {
      platform::IscsiDiskOptions options;
      options.session.portal = shelf.portal;
      options.session.target = shelf.iqn;
      options.session.initiator = "iqn.2026-11.org.duet:init." + config_.name_of(config_.self);
      options.session.isid.node = config_.self.value();
      options.lun = static_cast<std::uint8_t>(lun);
      options.name = fmt::format("{}/{}", shelf.iqn, lun);
      disks_.push_back(std::make_unique<platform::IscsiDisk>(loop_, options));
      if (auto started = disks_.back()->start(); !started) return started;
    }
    for (auto& disk : disks_) {
      if (!loop_.run_until([&] { return disk->connected(); }, connect_limit)) {
        return fail(ErrorCode::io_error,
                    fmt::format("disk {} at {} cannot be reached: {}", disk->name(), shelf.portal,
                                disk->last_error()));
      }
    }
    return {};
  }

  Status check() {
    for (auto& disk : disks_) {
      auto state = wait<ports::ReservationState>(
          [&](auto done) { disk->read_reservation(std::move(done)); });
      if (!state) return std::unexpected(state.error());
      if (state->reserved) {
        return fail(
            ErrorCode::refused,
            fmt::format("disk {} is reserved by {}: a node is using it; halt both nodes and clear "
                        "the reservation first",
                        disk->name(), disk::describe(state->holder)));
      }
      if (options_.force) continue;
      std::vector<std::byte> block(disk::label_area.size);
      auto read = wait<void>(
          [&](auto done) { disk->read(disk::label_area.offset, block, std::move(done)); });
      if (!read) return read;
      auto label = disk::choose_label(Bytes(block).first(disk::area_block_size),
                                      Bytes(block).subspan(disk::area_block_size));
      if (label || label.error().code != ErrorCode::not_found) {
        return fail(
            ErrorCode::refused,
            fmt::format(
                "disk {} bears a Duet label already; --force overwrites it and loses its data",
                disk->name()));
      }
    }
    return {};
  }

  Status write(std::size_t disk, std::uint64_t offset, const std::vector<std::byte>& block) {
    return wait<void>([&](auto done) {
      disks_[disk]->write(offset, {copy_to_slice(block)}, true, std::move(done));
    });
  }

  std::size_t mailbox_disk_count() const {
    return std::min<std::size_t>(disks_.size(), ha::mailbox_disks);
  }

  // Everything that is decided, before anything is written.
  Status plan() {
    pool_ = random_id();
    for (auto& disk : disks_) {
      const std::uint64_t size = disk::usable_size(disk->geometry().size);
      auto area = disk::data_area(size);
      if (!area) return std::unexpected(area.error());
      DiskId id;
      id.bytes = random_id();
      pool_disks_.push_back({disk.get(), id, *area});
    }
    protection_ = options_.protection.value_or(
        disks_.size() > options_.spares + 1 ? raid::Protection::single : raid::Protection::none);
    auto layout = pool::plan_layout(pool_disks_, protection_, options_.spares);
    if (!layout) return std::unexpected(layout.error());
    layout_ = std::move(*layout);
    return {};
  }

  Status write_labels() {
    const std::size_t members = layout_.members.size();
    for (std::size_t i = 0; i < disks_.size(); ++i) {
      const bool spare = i >= members;
      disk::Label label;
      label.cluster = config_.cluster;
      label.id = pool_disks_[i].id;
      label.owner = config_.self;
      label.role = spare ? disk::Role::spare : disk::Role::data;
      label.mailbox = i < mailbox_disk_count();
      label.position = spare ? 0 : static_cast<std::uint16_t>(i);
      label.disks_in_pool = spare ? 0 : static_cast<std::uint16_t>(members);
      if (!spare) label.redundancy = static_cast<std::uint8_t>(raid::parity_count(protection_));
      label.size = pool_disks_[i].data.end();
      label.pool = pool_;
      label.pool_name = config_.name_of(config_.self);
      auto block = disk::encode_label(label);
      if (!block) return std::unexpected(block.error());
      for (int copy = 0; copy < disk::label_copies; ++copy) {
        if (auto s = write(i, disk::label_copy(copy).offset, *block); !s) return s;
      }
    }
    return {};
  }

  Status write_pool() {
    return wait<void>(
        [&](auto done) { pool::format_pool(loop_, pool_, pool_disks_, layout_, std::move(done)); });
  }

  std::string describe() const {
    const std::size_t parity = raid::parity_count(protection_);
    const std::size_t data = layout_.members.size() - parity;
    const std::uint64_t size = data * layout_.groups[0].blocks * raid::block_size;
    return fmt::format("{} MiB ({}: {} data, {} parity, {} spare)", size >> 20,
                       raid::name(protection_), data, parity, layout_.spares.size());
  }

  // Last: without a mailbox nothing serves what is half made.
  Status write_mailbox() {
    std::vector<DiskId> ids;
    for (const auto& disk : pool_disks_) ids.push_back(disk.id);
    auto mailbox = ha::first_mailbox(config_.cluster, config_.self, std::move(ids));
    auto block = ha::encode(mailbox);
    std::vector<std::byte> empty(disk::heartbeat_block.size);
    for (std::size_t i = 0; i < mailbox_disk_count(); ++i) {
      if (auto s = write(i, disk::heartbeat_block.offset, empty); !s) return s;
      for (int copy = 0; copy < disk::mailbox_copies; ++copy) {
        if (auto s = write(i, disk::mailbox_copy(copy).offset, block); !s) return s;
      }
    }
    return {};
  }

  const node::Config& config_;
  InitializeOptions options_;
  platform::EventLoop loop_;
  std::vector<std::unique_ptr<platform::IscsiDisk>> disks_;
  std::vector<pool::Pool::Disk> pool_disks_;
  disk::PoolId pool_{};
  raid::Protection protection_ = raid::Protection::single;
  raid::Layout layout_;
};

}  // namespace

Result<std::string> initialize(const node::Config& config, const InitializeOptions& options) {
  return Initializer(config, options).run();
}

}  // namespace duet::cli
