// What an identity can do without: the labels of the disks that are there say how much redundancy
// their RAID groups have, and how many disks of the pool are missing. The engine, which knows the
// members, has the last word. docs/protocols/absent_disks.md.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "disk/label.h"
#include "ha/config.h"
#include "ha/output.h"

namespace duet::ha {

// Disks of one identity, by index, in ascending order.
using DiskSet = std::vector<std::uint8_t>;
bool contains(const DiskSet& set, std::uint8_t disk);
void add(DiskSet& set, std::uint8_t disk);

// Of a label (docs/formats/disk_label.md).
struct Place {
  bool data = false;
  std::uint16_t group = 0, position = 0, disks_in_pool = 0;
  std::uint8_t redundancy = 0;
  bool dedicated = false;  // to dumps
  DiskId id{};
  bool operator==(const Place&) const = default;
};
Place place_of(const disk::Label& label);
using Places = std::vector<std::optional<Place>>;  // by index; nothing: no label was read

// May the identity be served without these disks? Never without half of its mailbox disks, nor on
// a label that was not read; without spares always.
bool bears(const Places& places, const DiskSet& absent, std::uint8_t mailboxes);

// Reads the labels of every disk that has a path, and again now and then: a spare may have taken a
// member's place.
class LabelReader {
 public:
  static constexpr Duration label_interval = seconds(10);

  explicit LabelReader(const Config& config);
  // `connected` and `places` by identity.
  void on_time(const std::array<std::vector<bool>, 3>& connected, std::array<Places, 3>& places,
               Output& out);
  // True: our command.
  bool on_completed(const DiskCompleted& event, std::array<Places, 3>& places);
  Instant next_time() const { return next_; }
  void soon(Instant now) { next_ = now; }

 private:
  struct Disk {
    DiskRef ref;
    bool connected = false;
    std::array<std::optional<CommandId>, 2> open;
    std::array<std::optional<std::vector<std::byte>>, 2> copies;
    Instant due{};
  };
  std::optional<Place> place(const Disk& disk) const;

  ClusterId cluster_;
  std::vector<Disk> disks_;
  Instant next_ = never;
};

}  // namespace duet::ha
