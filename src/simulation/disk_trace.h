// Everything that was written to some disks, so that whatever a power cut may leave on them, at any
// moment, can be made afterwards without running it all again.
//
// What a disk may do: a write that nothing has made durable yet may be there sector by sector, or
// not, in any order. Durable for sure are: durable writes that have ended, and all writes that had
// ended when a flush began that has ended.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <utility>
#include <vector>

#include "simulation/fake_disk.h"

namespace duet::simulation {

class DiskTrace {
 public:
  // Watches from now on. The media outlive what is called on it; it forgets them in stop().
  explicit DiskTrace(const std::vector<std::unique_ptr<FakeMedium>>& media);
  ~DiskTrace() { stop(); }
  DiskTrace(const DiskTrace&) = delete;
  DiskTrace& operator=(const DiskTrace&) = delete;
  void stop();

  // Events so far; a moment is a number of events.
  std::size_t size() const { return events_.size(); }
  // Has a write or flush just begun at this moment? Then power may fail here.
  bool begins(std::size_t moment) const { return moment > 0 && !events_[moment - 1].event.ended; }

  // Which sectors of a write are on the medium; bit i: sector i; writes of more than 64 sectors
  // repeat the pattern.
  using Choose = std::function<std::uint64_t()>;
  static constexpr std::uint64_t all_sectors = ~std::uint64_t{0};

  // Goes through the trace from the beginning.
  class Cursor {
   public:
    explicit Cursor(const DiskTrace& trace) : trace_(trace), disks_(trace.start_.size()) {
      for (std::size_t i = 0; i < disks_.size(); ++i) disks_[i].certain = trace.start_[i];
    }
    std::size_t moment() const { return moment_; }
    void advance();  // by one event
    // Writes that may be there or not.
    std::size_t loose() const;
    std::vector<DiskImage> images(const Choose& choose) const;

   private:
    struct Write {
      const DiskEvent* event;
      bool ended = false;
      bool certain = false;
    };
    struct Disk {
      DiskImage certain;
      std::list<Write> writes;  // those that have ended first, in the order in which they did
      // Flushes under way, and how many writes they cover.
      std::vector<std::pair<std::uint64_t, std::vector<const DiskEvent*>>> flushes;
    };
    void begin(Disk& disk, const DiskEvent& event);
    static void end(Disk& disk, const DiskEvent& event);

    const DiskTrace& trace_;
    std::vector<Disk> disks_;
    std::size_t moment_ = 0;
  };

 private:
  struct Event {
    std::size_t disk;
    DiskEvent event;
  };
  std::vector<FakeMedium*> media_;
  std::vector<DiskImage> start_;
  std::deque<Event> events_;  // never moves
};

}  // namespace duet::simulation
