// One raw dump on a disk becomes a core file in the root volume of the node that panicked
// (docs/protocols/coredump.md, "the core file"). Chunk by chunk, behind clients' requests. When it
// ends early the header still says what is on the disk, and the next one starts from the front; the
// header becomes inactive only when core and JSON are durable, or the dump is given up.
//
// Refuses: disks that are not the identity's, headers of another disk or node.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "coredump/chunk_reader.h"
#include "coredump/header.h"
#include "coredump/information.h"
#include "node/core_folder.h"
#include "ports/disk.h"
#include "ports/scheduler.h"

namespace duet::node {

class CoreCollector {
 public:
  struct Ports {
    ports::Scheduler& scheduler;
    CoreFolder& folder;
    ports::Disk& disk;  // nobody else writes to it
    // Clients wait for room: their requests go first.
    std::function<bool()> clients_wait;
    // The pool writes to the disk: what is left of the dump is no dump any more.
    std::function<bool(const DiskId&)> in_use;
    std::function<void(const std::string& text)> log;
  };
  struct Rules {
    ClusterId cluster;
    NodeId node;                       // the identity
    std::size_t keep = 4;              // core files; 0: none
    std::uint64_t space_percent = 10;  // of the root volume, for all core files
  };
  enum class End : std::uint8_t {
    no_dump,      // nothing there to collect
    saved,        // the core file is there, the header inactive
    dropped,      // no core file, the header inactive
    interrupted,  // the dump is still there
  };
  struct Outcome {
    End end{};
    std::string id;    // of the dump, if there is one
    std::string text;  // for people
  };
  struct Progress {
    std::string id;          // empty: not known yet
    std::uint64_t done = 0;  // bytes of the raw dump
    std::uint64_t total = 0;
  };

  static constexpr std::size_t piece_size = 256 * 1024;  // bytes in one write
  static constexpr Duration retry_delay = milliseconds(500);
  static constexpr int max_retries = 20;  // in a row, of what passes
  static constexpr Duration pause_max = milliseconds(50);
  static constexpr Duration clients_look = milliseconds(10);
  static constexpr Duration clients_patience = seconds(1);  // for each chunk
  // Of the root volume stays free, in percent: who fills it, it is not us.
  static constexpr std::uint64_t free_percent = 5;

  CoreCollector(Ports ports, Rules rules);
  ~CoreCollector();
  CoreCollector(const CoreCollector&) = delete;
  CoreCollector& operator=(const CoreCollector&) = delete;

  // `done` once, not from inside the call.
  void start(std::function<void(const Outcome&)> done);
  // The dump stays as it is, header included.
  void leave();
  // RAID is about to write to the disk: the header becomes inactive now, the partial file goes. It
  // may do so when this has ended.
  void disk_needed();
  Progress progress() const;

 private:
  using Handle = files::Handle;
  enum class Pass : std::uint8_t { measuring, writing };
  // Only while this is the step under way.
  template <class F>
  auto in_step(F f);
  void read_front();
  void judge(Bytes front);
  void write_header(coredump::Attribute attribute, coredump::AbortReason reason,
                    std::function<void()> then);
  void write_copy(int copy, std::shared_ptr<std::vector<std::byte>> block,
                  std::function<void()> then);
  void header_written(std::function<void()> then);
  void clean();
  void look(CoreFolder::Found found);
  void remove_all(std::vector<std::string> ids, std::function<void()> then);
  void plan(const files::Space& space);
  void make_room(const files::Space& space);
  void wait_for_room();
  void begin_pass(Pass pass);
  void next_chunk();
  void check_space();
  void read_chunk();
  void take(Bytes bytes);
  void write_pieces();
  void chunk_done();
  void make_way();
  void pass_over();
  void finish();
  void drop(std::string why);
  void give_up(std::string why);
  void end(End how, std::string text);
  template <class T>
  bool passes(const Result<T>& r, std::function<void()> again);
  void failed(const Error& error);
  std::uint64_t used_by_cores() const;
  std::uint64_t reserve(const files::Space& space) const;
  std::uint64_t limit(const files::Space& space) const;

  Ports ports_;
  Rules rules_;
  std::function<void(const Outcome&)> done_;
  std::uint64_t step_ = 0;
  bool ended_ = false;
  bool writing_header_ = false;
  bool leaves_ = false;
  bool disk_needed_ = false;
  int retries_ = 0;
  std::optional<coredump::Header> header_;
  std::string id_;
  std::vector<CoreFolder::Core> others_;  // finished ones, the oldest first
  std::uint64_t freed_ = 0;               // bytes of cores that were removed, perhaps not free yet
  std::uint64_t need_ = 0;                // bytes on the disks, at most
  std::unique_ptr<coredump::ChunkReader> reader_;
  Pass pass_{};
  Handle file_;
  Instant chunk_begun_{};
  Instant waiting_since_{};
  struct Piece {
    std::uint64_t offset = 0;  // in the core
    Bytes bytes;               // of the chunk in hand
  };
  std::vector<Piece> pieces_;     // from the last one on
  std::uint64_t last_block_ = 0;  // of the core, that was counted; from 1
  std::uint64_t blocks_ = 0;      // of the core that are not all zeros
  std::uint64_t raw_read_ = 0;    // bytes, of this pass
  std::optional<coredump::Information> information_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::node
