#include "node/rehearsal.h"

#include <fmt/format.h>

#include <memory>

#include "disk/areas.h"
#include "disk/label.h"
#include "disk/reservation_key.h"
#include "ha/absence.h"
#include "ha/events.h"
#include "ha/mailbox.h"

namespace duet::node {
namespace {

struct Rehearsal {
  const Config& config;
  std::vector<RehearsedDisk> disks;
  std::size_t waiting = 0;
  std::function<void(ha::Vetoes)> done;
  void arrived() {
    if (--waiting == 0) done(judge_rehearsal(config, disks));
  }
};

void look_at(ports::Disk& disk, std::size_t index, const std::shared_ptr<Rehearsal>& rehearsal) {
  auto read = [&](disk::Area area, auto member) {
    ++rehearsal->waiting;
    auto bytes = std::make_shared<std::vector<std::byte>>(area.size);
    disk.read(area.offset, *bytes, [=](Result<void> r) {
      auto& to = rehearsal->disks[index].*member;
      to = r ? Result<std::vector<std::byte>>(std::move(*bytes)) : std::unexpected(r.error());
      rehearsal->arrived();
    });
  };
  read(disk::label_area, &RehearsedDisk::labels);
  if (rehearsal->disks[index].mailbox_disk) {
    disk::Area both{disk::mailbox_copy(0).offset,
                    std::uint64_t{disk::mailbox_copies} * ha::mailbox_block_size};
    read(both, &RehearsedDisk::mailbox);
  }
  ++rehearsal->waiting;
  disk.read_reservation([=](Result<ports::ReservationState> r) {
    rehearsal->disks[index].reservation = std::move(r);
    rehearsal->arrived();
  });
}

Result<disk::Label> partners_label(const Config& config, Bytes labels) {
  auto copy = [&](int n) {
    return labels.subspan(disk::label_copy(n).offset - disk::label_area.offset,
                          disk::label_copy(n).size);
  };
  auto chosen = disk::choose_label(copy(0), copy(1));
  if (!chosen) return std::unexpected(chosen.error());
  if (chosen->label.cluster != config.cluster) {
    return fail(ErrorCode::invalid, "belongs to another cluster");
  }
  if (chosen->label.owner != config.partner()) {
    return fail(ErrorCode::invalid,
                fmt::format("is labelled as a disk of node {}", chosen->label.owner.value()));
  }
  return chosen->label;
}

// What a takeover would find: disks that cannot be fenced, and those whose label cannot be read,
// without which the engine would have to open the pool.
struct Silent {
  ha::DiskSet unfenced, unlabelled;  // these contain those
  bool borne = false;
};
Silent silent_disks(const std::vector<RehearsedDisk>& disks, const ha::Places& places) {
  Silent silent;
  std::uint8_t mailboxes = 0;
  for (std::size_t i = 0; i < disks.size(); ++i) {
    auto index = static_cast<std::uint8_t>(i);
    if (disks[i].mailbox_disk) ++mailboxes;
    if (!disks[i].reservation) ha::add(silent.unfenced, index);
    if (!disks[i].reservation || !disks[i].labels) ha::add(silent.unlabelled, index);
  }
  silent.borne = ha::bears(places, silent.unfenced, mailboxes) &&
                 ha::bears(places, silent.unlabelled, mailboxes);
  return silent;
}

bool readable_mailbox(Bytes copies) {
  for (int copy = 0; copy < disk::mailbox_copies; ++copy) {
    auto block = copies.subspan(static_cast<std::size_t>(copy) * ha::mailbox_block_size,
                                ha::mailbox_block_size);
    if (ha::decode_mailbox(block)) return true;
  }
  return false;
}

}  // namespace

ha::Vetoes judge_rehearsal(const Config& config, const std::vector<RehearsedDisk>& disks) {
  ha::Vetoes vetoes;
  auto hard = [&](ha::Reason reason, const RehearsedDisk& disk, const std::string& detail) {
    vetoes.push_back({.reason = reason, .hard = true, .detail = disk.name + ": " + detail});
  };
  ha::Places places;
  for (const auto& disk : disks) {
    auto label = disk.labels ? partners_label(config, *disk.labels)
                             : Result<disk::Label>(std::unexpected(disk.labels.error()));
    places.push_back(label ? std::optional(ha::place_of(*label)) : std::nullopt);
    if (disk.labels && !label) hard(ha::Reason::label_unfit, disk, label.error().message);
  }
  auto silent = silent_disks(disks, places);
  std::size_t mailboxes = 0, readable = 0;
  for (std::size_t i = 0; i < disks.size(); ++i) {
    const auto& disk = disks[i];
    auto index = static_cast<std::uint8_t>(i);
    if (ha::contains(silent.unlabelled, index)) {
      const auto& error = disk.reservation ? disk.labels.error() : disk.reservation.error();
      vetoes.push_back({.reason = silent.borne ? ha::Reason::disk_done_without
                                               : ha::Reason::partner_disks_unreachable,
                        .hard = !silent.borne,
                        .detail = disk.name + ": " + error.message});
    }
    if (disk.reservation) {
      const auto& reservation = *disk.reservation;
      bool ours = !reservation.reserved ||
                  disk::belongs_to(reservation.holder, config.self, config.cluster) ||
                  disk::belongs_to(reservation.holder, config.partner(), config.cluster);
      if (!ours) {
        hard(ha::Reason::foreign_reservation, disk, disk::describe(reservation.holder));
      }
    }
    // One that is not fenced is not asked.
    if (!disk.mailbox_disk || (silent.borne && ha::contains(silent.unfenced, index))) continue;
    ++mailboxes;
    if (disk.mailbox && readable_mailbox(*disk.mailbox)) ++readable;
  }
  if (readable < mailboxes) {  // a takeover wants all that it fences
    vetoes.push_back({.reason = ha::Reason::mailbox_unknown,
                      .hard = true,
                      .detail = fmt::format("{} of {} readable", readable, mailboxes)});
  }
  return vetoes;
}

void rehearse_takeover(const Config& config, const std::vector<ports::Disk*>& disks,
                       std::function<void(ha::Vetoes)> done) {
  auto rehearsal = std::make_shared<Rehearsal>(Rehearsal{config, {}, 0, std::move(done)});
  for (std::size_t i = 0; i < disks.size(); ++i) {
    RehearsedDisk disk;
    disk.name = config.disk_name(config.partner(), i);
    disk.mailbox_disk = i < ha::mailbox_disks;
    rehearsal->disks.push_back(std::move(disk));
  }
  rehearsal->waiting = 1;  // nobody arrives before all have been asked
  for (std::size_t i = 0; i < disks.size(); ++i) look_at(*disks[i], i, rehearsal);
  rehearsal->arrived();
}

}  // namespace duet::node
