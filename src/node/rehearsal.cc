#include "node/rehearsal.h"

#include <fmt/format.h>

#include <memory>

#include "disk/areas.h"
#include "disk/label.h"
#include "disk/reservation_key.h"
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

std::string label_fault(const Config& config, Bytes labels) {
  auto copy = [&](int n) {
    return labels.subspan(disk::label_copy(n).offset - disk::label_area.offset,
                          disk::label_copy(n).size);
  };
  auto chosen = disk::choose_label(copy(0), copy(1));
  if (!chosen) return chosen.error().message;
  if (chosen->label.cluster != config.cluster) return "belongs to another cluster";
  if (chosen->label.owner != config.partner()) {
    return fmt::format("is labelled as a disk of node {}", chosen->label.owner.value());
  }
  return {};
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
  std::size_t mailboxes = 0, readable = 0;
  for (const auto& disk : disks) {
    if (!disk.labels || !disk.reservation) {
      const auto& error = disk.labels ? disk.reservation.error() : disk.labels.error();
      hard(ha::Reason::partner_disks_unreachable, disk, error.message);
    } else {
      if (auto fault = label_fault(config, *disk.labels); !fault.empty()) {
        hard(ha::Reason::label_unfit, disk, fault);
      }
      const auto& reservation = *disk.reservation;
      bool ours = !reservation.reserved ||
                  disk::belongs_to(reservation.holder, config.self, config.cluster) ||
                  disk::belongs_to(reservation.holder, config.partner(), config.cluster);
      if (!ours) {
        hard(ha::Reason::foreign_reservation, disk, disk::describe(reservation.holder));
      }
    }
    if (!disk.mailbox_disk) continue;
    ++mailboxes;
    if (disk.mailbox && readable_mailbox(*disk.mailbox)) ++readable;
  }
  if (readable < mailboxes) {  // a takeover wants all of them
    vetoes.push_back({.reason = ha::Reason::mailbox_unknown,
                      .hard = true,
                      .detail = fmt::format("{} of {} readable", readable, mailboxes)});
  }
  return vetoes;
}

void rehearse_takeover(const Config& config, const std::vector<ports::Disk*>& disks,
                       std::function<void(ha::Vetoes)> done) {
  auto rehearsal = std::make_shared<Rehearsal>(Rehearsal{config, {}, 0, std::move(done)});
  const auto& luns = config.shelves[config.partner().value()].luns;
  for (std::size_t i = 0; i < disks.size(); ++i) {
    RehearsedDisk disk;
    disk.name = fmt::format("{}/{}", config.name_of(config.partner()), luns[i]);
    disk.mailbox_disk = i < ha::mailbox_disks;
    rehearsal->disks.push_back(std::move(disk));
  }
  rehearsal->waiting = 1;  // nobody arrives before all have been asked
  for (std::size_t i = 0; i < disks.size(); ++i) look_at(*disks[i], i, rehearsal);
  rehearsal->arrived();
}

}  // namespace duet::node
