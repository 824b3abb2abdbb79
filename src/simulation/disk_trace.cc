#include "simulation/disk_trace.h"

#include <algorithm>

#include "base/assert.h"

namespace duet::simulation {
namespace {

constexpr std::uint64_t sector = 512;

void apply(const DiskEvent& write, std::uint64_t sectors, DiskImage& image) {
  std::uint64_t offset = write.offset;
  if (sectors == 0) return;
  if (sectors == DiskTrace::all_sectors) {
    for (const Slice& slice : write.data) {
      image.write(offset, slice.bytes);
      offset += slice.bytes.size();
    }
    return;
  }
  std::uint64_t number = 0;
  for (const Slice& slice : write.data) {
    for (std::size_t at = 0; at < slice.bytes.size(); at += sector, offset += sector, ++number) {
      if ((sectors >> number % 64 & 1) != 0) image.write(offset, slice.bytes.subspan(at, sector));
    }
  }
}

}  // namespace

DiskTrace::DiskTrace(const std::vector<std::unique_ptr<FakeMedium>>& media) {
  for (std::size_t i = 0; i < media.size(); ++i) {
    ASSERT(!media[i]->watch);
    media_.push_back(media[i].get());
    start_.push_back(media[i]->image());
    media[i]->watch = [this, i](DiskEvent event) { events_.push_back({i, std::move(event)}); };
  }
}

void DiskTrace::stop() {
  for (FakeMedium* medium : std::exchange(media_, {})) medium->watch = nullptr;
}

void DiskTrace::Cursor::advance() {
  const Event& event = trace_.events_[moment_++];
  if (event.event.ended) {
    end(disks_[event.disk], event.event);
  } else {
    begin(disks_[event.disk], event.event);
  }
}

void DiskTrace::Cursor::begin(Disk& disk, const DiskEvent& event) {
  if (!event.flush) {
    disk.writes.push_back({&event});
    return;
  }
  auto& covered =
      disk.flushes.emplace_back(event.operation, std::vector<const DiskEvent*>()).second;
  for (const Write& write : disk.writes) {
    if (write.ended) covered.push_back(write.event);
  }
}

void DiskTrace::Cursor::end(Disk& disk, const DiskEvent& event) {
  if (event.flush) {
    auto flush = std::ranges::find(disk.flushes, event.operation,
                                   [](const auto& under_way) { return under_way.first; });
    for (Write& write : disk.writes) {
      if (std::ranges::find(flush->second, write.event) != flush->second.end())
        write.certain = true;
    }
    disk.flushes.erase(flush);
  } else {
    auto write = std::ranges::find(disk.writes, event.operation,
                                   [](const Write& w) { return w.event->operation; });
    write->ended = true;
    write->certain = event.durable;
    auto place = std::ranges::find(disk.writes, false, &Write::ended);
    disk.writes.splice(place, disk.writes, write);
  }
  while (!disk.writes.empty() && disk.writes.front().certain) {
    apply(*disk.writes.front().event, all_sectors, disk.certain);
    disk.writes.pop_front();
  }
}

std::size_t DiskTrace::Cursor::loose() const {
  std::size_t count = 0;
  for (const Disk& disk : disks_) {
    count += static_cast<std::size_t>(std::ranges::count(disk.writes, false, &Write::certain));
  }
  return count;
}

std::vector<DiskImage> DiskTrace::Cursor::images(const Choose& choose) const {
  std::vector<DiskImage> images;
  for (const Disk& disk : disks_) {
    DiskImage& image = images.emplace_back(disk.certain);
    for (const Write& write : disk.writes) {
      apply(*write.event, write.certain ? all_sectors : choose(), image);
    }
  }
  return images;
}

}  // namespace duet::simulation
