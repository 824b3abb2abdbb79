// The parts of the array: one object, its functions sorted into files by what they do. An operation
// is a value held by the callbacks of its steps, together with the array itself.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>

#include "raid/array.h"
#include "raid/device.h"
#include "raid/group_map.h"
#include "raid/read_plan.h"
#include "raid/stripe_journal.h"
#include "raid/stripe_locks.h"
#include "raid/write_plan.h"

namespace duet::raid {

// Blocks 16 .. 255 of the data area.
inline constexpr std::uint64_t note_slots = 16;  // two blocks, used in turn
inline constexpr std::uint64_t ring_begin = 18;
inline constexpr std::uint64_t ring_end = reserved_blocks;

inline constexpr std::size_t max_wave_stripes = 256;
inline constexpr std::size_t max_wave_partial = 32;
inline constexpr unsigned max_waves = 2;                // of one batch, under way
inline constexpr std::size_t max_open_stripes = 8192;   // of a group, then a flush comes first
inline constexpr std::size_t max_reads_under_way = 64;  // disk reads of one call
inline constexpr std::uint64_t rows_per_step = 64;      // of rebuild and scrub
inline constexpr std::uint64_t rows_per_look = 4096;    // asked for live blocks in one go
inline constexpr Duration rebuild_retry_delay = seconds(1);
inline constexpr Duration publish_interval = seconds(2);
inline constexpr Duration reconnect_delay = milliseconds(100);

// A block of zeros; two of them, as P and Q of nothing.
const Slice& zero_block();
const OwnedBuffer& zero_parity();

// Runs `done` when the last copy of it is gone: the end of steps that run side by side.
class Join {
 public:
  explicit Join(std::move_only_function<void(Status)> done) : done_(std::move(done)) {}
  Join(const Join&) = delete;
  Join& operator=(const Join&) = delete;
  ~Join() { done_(std::move(status_)); }
  void add(Status status) {
    if (status_ && !status) status_ = std::move(status);
  }

 private:
  std::move_only_function<void(Status)> done_;
  Status status_;
};

// What a stripe holds, as read with its lock held. A null column is zeros.
struct StripeImage {
  std::vector<OwnedBuffer> columns;
  ColumnMask present = 0;  // read, or known without; the rest is reconstructed or not there
  ColumnMask bad = 0;      // could not be read from a disk that is there
};

struct Array::Impl : std::enable_shared_from_this<Array::Impl> {
  using Finish = std::move_only_function<void(Status)>;
  using Self = std::shared_ptr<Impl>;

  Impl(ports::Scheduler& s, Options o, Owner w);

  // ---- array.cc: what is common ----
  bool running() const { return !closed && !fenced; }
  std::uint64_t begin(ports::Done<void> done);  // to be ended by end(), or by close()
  void end(std::uint64_t operation, Status status);
  void event(const std::string& text);
  // The end of steps that run side by side; nothing follows after close().
  std::shared_ptr<Join> join(Finish done);
  Status stopped() const;  // the error of an operation that cannot go on
  void close();
  void fence(const Error& error);

  std::shared_ptr<Device> device_of(std::uint32_t member) const;  // null: absent
  std::uint32_t member_at(std::uint16_t group, std::uint32_t column) const {
    return groups[group]->members[column];
  }
  bool reachable(std::uint32_t member) const;
  bool readable(std::uint32_t member, std::uint64_t block) const;
  ColumnMask readable_columns(const GroupColumns& group, std::uint64_t stripe) const;
  ColumnMask written_columns(const GroupColumns& group) const;  // members that get writes
  std::string describe(std::uint32_t member) const;
  // The member missed a write: it has failed, or the write has.
  void missed(std::uint32_t member, Instant since, Finish done);
  // Writes to a member; good, too, if the member has failed instead.
  void write_member(std::uint32_t member, std::uint64_t block, std::vector<Slice> data,
                    bool durable, Finish done);

  // Good, too, if the member is no longer one, or has failed because of it.
  void member_answered(std::uint32_t member, std::uint64_t incarnation, Status status, Finish done);

  // ---- array_members.cc: who is in ----
  // False: the group would be lost, nothing has changed.
  bool fail_member(std::uint32_t member, const std::string& why);
  void drop_member(std::uint32_t member, const std::string& why, bool kept_out = false);
  Status bears_loss(std::uint32_t member) const;  // without those that are away, too
  Status bears_absence(std::uint32_t member) const;
  void changed();
  void add_member(std::uint16_t group, const Disk& disk, ports::Done<std::uint32_t> done);
  struct Growth {
    std::uint16_t group = 0;
    std::shared_ptr<Device> device;
    std::shared_ptr<std::uint32_t> number;  // the answer
    std::uint64_t id = 0;
    std::vector<Slice> zeros;
    std::uint64_t next = 0;  // block
  };
  std::map<DiskId, std::shared_ptr<Growth>> growths;  // under way
  void start_growth(const Joining& joining, std::shared_ptr<std::uint32_t> number,
                    std::uint64_t id);
  void growth_failed(const std::shared_ptr<Growth>& growth, Status status);
  void zero_next(const std::shared_ptr<Growth>& growth);
  void join_group(const std::shared_ptr<Growth>& growth);
  std::size_t count_joining(std::uint16_t group) const;
  void open_group(std::uint16_t group);            // of a new one: its journal is erased first
  Duration pause_for(std::uint64_t blocks) const;  // between two steps in the background

  // ---- array_spares.cc: who comes in ----
  struct Claim {
    std::uint64_t number = 0;
    bool granted = false;                 // for the order that has asked
    std::optional<std::uint32_t> member;  // whose place it is for, if no order has asked
    ports::TimerId limit{};
    Finish done;
  };
  void look_for_spares();
  void take_spare(std::uint32_t member);
  enum class Use : std::uint8_t { now, later, never };
  Use use_of(std::uint32_t member, DiskId spare) const;
  void spare_claimed(std::uint32_t member, DiskId spare, const Status& status);
  Status replace(std::uint32_t member, DiskId disk);
  void claim(const Disk& disk, std::optional<std::uint32_t> member, Finish done);
  void claim_answered(DiskId disk, std::uint64_t number, Status status);
  void drop_claim(DiskId disk);
  Status check_claim(DiskId disk) const;

  // ---- array_stripe.cc: one stripe, its lock held ----
  // Reads or reconstructs the columns of `want`. Columns in `avoid` are not read.
  void read_stripe(Columns of, StripeKey key, ColumnMask want, ColumnMask avoid,
                   std::move_only_function<void(Result<StripeImage>)> done);
  struct StripeRead;
  void try_stripe(const std::shared_ptr<StripeRead>& read);
  void stripe_arrived(const std::shared_ptr<StripeRead>& read);
  void stripe_lacking(const std::shared_ptr<StripeRead>& read);

  // ---- array_journal.cc ----
  struct RingRecord {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    const void* wave = nullptr;  // under way
    bool stuck = false;          // its wave has failed
    std::uint64_t ended = 0;     // operation number
  };
  struct RingWrite {
    DataBytes bytes;
    const void* wave = nullptr;
    Finish done;
  };
  struct Open {  // a stripe that was written in part and is perhaps not yet durable
    ColumnMask touched = 0;
    ColumnMask torn = 0;      // of them, those whose last write has not ended well
    bool failed = false;      // nor will it by itself
    OwnedBuffer untouched;    // P and Q of what was not touched
    OwnedBuffer rest;         // P and Q of what is not torn; while something is
    std::uint64_t ended = 0;  // operation number of the last write
  };
  struct GroupState {
    std::uint64_t ring_next = ring_begin;
    std::deque<RingRecord> ring;
    std::deque<RingWrite> ring_waiting;
    bool ring_busy = false;
    std::uint64_t note_slot = 0;
    bool rebuilding = false;
    bool opening = false;  // its journal is being erased
    std::vector<ports::Task> when_open;
    std::unordered_map<std::uint64_t, Open> open;  // by stripe
  };
  struct Unpublished {
    DiskId disk;
    bool noted = false;
  };
  void journal(std::uint16_t group, std::vector<JournalStripe> stripes, const void* wave,
               Finish done);
  void journal_bytes(std::uint16_t group, DataBytes bytes, const void* wave, Finish done);
  void ring_next(std::uint16_t group);
  std::optional<std::uint64_t> ring_place(GroupState& state, std::uint64_t count);
  void write_copies(std::uint16_t group, std::uint64_t block, DataBytes bytes, Finish done);
  void ring_ended(std::uint16_t group, const void* wave, bool well);
  // That members have failed is durable before anything that they missed is relied on.
  void ensure_noted(Finish done);
  void note(std::uint16_t group, DataBytes bytes, Finish done);

  // ---- array_write.cc ----
  struct Batch;
  struct Work;
  struct Wave;
  void write(std::uint64_t number, std::vector<BlockWrite> blocks, ports::Done<void> done);
  void write_stripes(std::vector<StripeWrite> stripes, Finish done);
  void start_waves(const std::shared_ptr<Batch>& batch);
  void lock_wave(const std::shared_ptr<Wave>& wave, std::size_t from);
  void prepare_wave(const std::shared_ptr<Wave>& wave);
  static void widen(StripeWrite& stripe, const Geometry& geometry);
  void prepare(const std::shared_ptr<Wave>& wave, std::size_t index,
               const std::shared_ptr<Join>& join);
  void prepare_mend(const std::shared_ptr<Wave>& wave, std::size_t index, const Open& open,
                    const std::shared_ptr<Join>& join);
  void mend_with(const std::shared_ptr<Wave>& wave, std::size_t index, const StripeImage& image);
  void parity_of(const std::shared_ptr<Wave>& wave, std::size_t index, const StripeImage& image,
                 bool modify);
  void journal_wave(const std::shared_ptr<Wave>& wave);
  void issue_wave(const std::shared_ptr<Wave>& wave);
  void end_wave(const std::shared_ptr<Wave>& wave, const Status& status);
  void release_wave(const std::shared_ptr<Wave>& wave, const Status& status);

  // ---- array_flush.cc ----
  void flush(Finish done);
  void flush_group(std::uint16_t group, Finish done);
  void group_flushed(std::uint16_t group, std::uint64_t start);
  void flush_member(std::uint32_t member, Finish done);
  void mend_torn(Finish done);
  void write_everywhere(std::uint64_t block, const Slice& data, ports::Done<void> done);
  void note_bearers();

  // ---- array_read.cc ----
  struct ReadBatch;
  struct RunRead;
  void read(std::vector<BlockRead> blocks, ports::Done<void> done);
  void next_runs(const std::shared_ptr<ReadBatch>& batch);
  void start_run(const std::shared_ptr<ReadBatch>& batch, ReadRun run);
  void run_arrived(const std::shared_ptr<RunRead>& run, const Status& status);
  void hedge(const std::shared_ptr<RunRead>& run);
  void answer(const std::shared_ptr<RunRead>& run, std::size_t index, Bytes block);
  void give_up(const std::shared_ptr<RunRead>& run, std::size_t index, Error error);
  void settle(const std::shared_ptr<RunRead>& run, std::size_t index);
  std::uint32_t choose_copy(const GroupColumns& of, std::uint64_t end);

  // ---- array_rescue.cc ----
  struct Rescue;
  enum class Trouble : std::uint8_t { away, unreadable, wrong };
  void rescue(const std::shared_ptr<RunRead>& run, std::size_t index, Trouble trouble, bool hedged);
  void rescue_locked(const std::shared_ptr<Rescue>& rescue);
  void rescue_try(const std::shared_ptr<Rescue>& rescue);
  void rescue_image(const std::shared_ptr<Rescue>& rescue, Result<StripeImage> image);
  void rescue_found(const std::shared_ptr<Rescue>& rescue, const StripeImage& image,
                    ColumnMask wrong);
  void rescue_failed(const std::shared_ptr<Rescue>& rescue, Error error);

  // ---- array_recover.cc ----
  struct Recovery;
  void format(ports::Done<void> done);
  void opened();
  void recover(std::uint64_t number, std::vector<Slice> records, ports::Done<void> done);
  void read_journal(const std::shared_ptr<Recovery>& recovery, std::uint32_t member, Instant since,
                    const std::shared_ptr<Join>& join);
  void read_journal_blocks(const std::shared_ptr<Recovery>& recovery, std::uint32_t member,
                           const std::shared_ptr<Join>& join);
  void take_journal(const std::shared_ptr<Recovery>& recovery, const Slice& area);
  bool take_record(const std::shared_ptr<Recovery>& recovery, const Slice& bytes);
  void apply_records(const std::shared_ptr<Recovery>& recovery);
  void erase_journals(std::uint64_t from, Finish done);

  // ---- array_rebuild.cc ----
  struct Rebuild {
    std::uint16_t group = 0;
    std::uint32_t member = 0;
    std::uint64_t incarnation = 0;
    Columns of;
    std::uint64_t row = 0;  // rows below are done
    std::uint64_t end = 0;  // of the step under way
    Instant begin{};        // of the step
    Instant published{};
  };
  void start_rebuilds();
  void rebuild_next(std::uint16_t group);
  bool rebuild_goes_on(const Rebuild& rebuild) const;
  void rebuild_rows(const std::shared_ptr<Rebuild>& rebuild);
  void rebuild_locked(const std::shared_ptr<Rebuild>& rebuild);
  void rebuild_row(const Rebuild& rebuild, std::uint64_t row, std::uint32_t column,
                   Result<StripeImage> image, const std::shared_ptr<Join>& join);
  void rebuild_step_ended(const std::shared_ptr<Rebuild>& rebuild, const Status& status);
  void rebuild_publish(const std::shared_ptr<Rebuild>& rebuild, bool last);
  // In ascending order.
  void lock_rows(std::uint16_t group, std::uint64_t from, std::uint64_t to, ports::Task then);
  void unlock_rows(std::uint16_t group, std::uint64_t from, std::uint64_t to);
  static bool row_live(const GroupColumns& of, std::uint64_t row,
                       const std::function<bool(BlockAddress)>& live);

  // ---- array_scrub.cc ----
  struct Scrub {
    std::uint64_t id = 0;
    std::uint64_t rate = 0;
    std::uint16_t group = 0;
    std::uint64_t row = 0;
    std::uint64_t end = 0;     // of the step under way
    std::uint64_t passed = 0;  // blocks of the groups before
    std::uint64_t mismatches = 0;
    std::function<bool(BlockAddress)> live;
    Instant begin{};
  };
  void start_scrub(std::uint64_t rate, ports::Done<std::uint64_t> done,
                   std::function<bool(BlockAddress)> live);
  void scrub_rows();
  void scrub_locked(const Columns& of);
  void scrub_row(const Columns& of, std::uint64_t row, const StripeImage& image,
                 const std::shared_ptr<Join>& join);
  void scrub_step_ended();

  ports::Scheduler& scheduler;
  Options options;
  Owner owner;
  Layout layout;
  WriteFigures write_figures;
  std::uint64_t layout_version = 0;
  std::vector<Columns> groups;
  std::deque<GroupState> states;  // by group
  std::map<DiskId, std::shared_ptr<Device>> devices;
  struct MemberCounters {
    bool slow = false;
    unsigned prompt = 0;  // answers since it was slow
    unsigned asides = 0;  // reads that its copies got instead
    std::uint64_t read_errors = 0;
    std::uint64_t repaired = 0;
    std::uint64_t valid = 0;  // blocks below are valid, while rebuilding
    // Of whoever has the place: the same disk that comes again is another one.
    std::uint64_t incarnation = 0;
  };
  std::vector<MemberCounters> members;
  std::set<DiskId> bearers;  // were in sync when the last superblock was written
  std::map<std::uint32_t, Unpublished> unpublished;  // failed, and no superblock says so
  StripeLocks locks;
  std::uint64_t generation = 0;  // of the consistency point under way
  std::uint64_t sequence = 0;    // of the last journal record
  std::uint64_t operation = 0;   // counts what ends and what flushes, in their order
  std::map<std::uint64_t, ports::Done<void>> under_way;
  std::uint64_t last_operation = 0;
  bool closed = false;
  bool fenced = false;
  bool automatic_spares = true;
  std::map<DiskId, Claim> claims;
  std::uint64_t last_claim = 0;
  std::map<DiskId, Instant> resting;  // spares whose claim was refused, until then
  bool spare_look_due = false;
  std::size_t spares_missed = 0;  // named to the owner in turn
  bool background = false;        // may run
  std::shared_ptr<Scrub> scrub;
};

}  // namespace duet::raid
