#include "shelf/shelf.h"

#include <algorithm>
#include <cstdio>

namespace duet::shelf {

namespace {

// FNV-1a: the same shelf and disk always have the same name.
std::uint64_t hash(std::string_view text) {
  std::uint64_t h = 0xcbf29ce484222325;
  for (char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return h;
}

std::uint64_t size_of(const ShelfConfig& config, unsigned disk) {
  return config.sizes[std::min<std::size_t>(disk, config.sizes.size() - 1)];
}

scsi::UnitConfig unit_config(const ShelfConfig& config, unsigned disk, const std::string& name) {
  scsi::UnitConfig unit;
  unit.product = "SHELF-DISK";
  unit.naa = hash(config.target_name + "/" + name);
  char serial[17];
  std::snprintf(serial, sizeof serial, "%016llx", static_cast<unsigned long long>(unit.naa));
  unit.serial = serial;
  unit.target_name = config.target_name;
  unit.target_ports = config.target_ports;
  unit.block_size = config.block_size;
  unit.blocks = size_of(config, disk) / config.block_size;
  unit.write_cache = config.write_cache;
  unit.write_cache_changeable = true;
  return unit;
}

}  // namespace

void remove_disks(const std::filesystem::path& directory) {
  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    const auto extension = entry.path().extension();
    if (entry.path().stem().string().starts_with("disk-") &&
        (extension == ".img" || extension == ".reservations"))
      files.push_back(entry.path());
  }
  for (const auto& file : files) std::filesystem::remove(file, error);
}

Result<std::unique_ptr<Shelf>> Shelf::open(const ShelfConfig& config, ports::Scheduler& scheduler,
                                           Workers& workers) {
  if (config.disks == 0 || config.disks > max_disks)
    return fail(ErrorCode::invalid, "a shelf has 1 to " + std::to_string(max_disks) + " disks");
  if (config.block_size != 512 && config.block_size != 4096)
    return fail(ErrorCode::invalid, "the block size is 512 or 4096");
  if (config.sizes.empty() || config.sizes.size() > config.disks ||
      !std::ranges::all_of(config.sizes, [](auto size) { return size > 0 && size % 4096 == 0; }))
    return fail(ErrorCode::invalid,
                "a shelf has at most one size a disk, each a multiple of 4096 bytes");
  std::error_code error;
  std::filesystem::create_directories(config.directory, error);
  if (error) return fail(ErrorCode::io_error, config.directory.string() + ": " + error.message());

  std::unique_ptr<Shelf> shelf(new Shelf);
  for (unsigned i = 0; i < config.disks; ++i) {
    char name[16];
    std::snprintf(name, sizeof name, "disk-%03u", i);
    StoreConfig store{.data = config.directory / (std::string(name) + ".img"),
                      .reservations = config.directory / (std::string(name) + ".reservations"),
                      .size = size_of(config, i),
                      .block_size = config.block_size,
                      .sync = config.sync};
    auto disk = ShelfDisk::open(
        shelf->device_, LunNumber(static_cast<std::uint16_t>(i)), unit_config(config, i, name),
        std::move(store), scheduler, workers,
        [raw = shelf.get()](scsi::Action&& action) { raw->answer_(std::move(action)); });
    if (!disk) return std::unexpected(disk.error());
    shelf->disks_.push_back(std::move(*disk));
  }
  return shelf;
}

ShelfDisk* Shelf::find(std::optional<LunNumber> lun) {
  if (!lun || lun->value() >= disks_.size()) return nullptr;
  return disks_[lun->value()].get();
}

void Shelf::on_command(std::optional<LunNumber> lun, scsi::Command&& command) {
  constexpr std::uint8_t report_luns = 0xa0;
  auto* disk = find(lun);
  if (disk && command.cdb[0] != report_luns) return disk->on_command(std::move(command));
  scsi::Actions actions;
  device_.on_command(lun, std::move(command), actions);
  for (auto& action : actions) answer_(std::move(action));
}

bool Shelf::on_task_management(std::uint64_t request, scsi::TaskManagement function,
                               const scsi::Nexus& nexus, LunNumber lun,
                               std::optional<scsi::CommandTag> task) {
  auto* disk = find(lun);
  if (disk) disk->on_task_management(request, function, nexus, task);
  return disk != nullptr;
}

void Shelf::on_nexus_new(const scsi::Nexus& nexus) {
  for (auto& disk : disks_) disk->on_nexus_new(nexus);
}

void Shelf::on_nexus_lost(const scsi::Nexus& nexus) {
  for (auto& disk : disks_) disk->on_nexus_lost(nexus);
}

}  // namespace duet::shelf
