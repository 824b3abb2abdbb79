#include "node/core_collector.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/coverage.h"
#include "base/zero.h"
#include "disk/label.h"

namespace duet::node {

using coredump::AbortReason;
using coredump::Attribute;
using coredump::ChunkReader;

namespace {

// Labels and headers of a disk, in one read.
constexpr std::uint64_t front_size = coredump::header_copy(1).end();

std::uint64_t part_of(std::uint64_t whole, std::uint64_t percent) {
  return whole / 100 * percent;
}

constexpr const char* needed = "the pool needs the disk";

// The dump is not the less there because the path to it is gone just now.
bool may_pass(ErrorCode code) {
  return code == ErrorCode::busy || code == ErrorCode::timed_out || code == ErrorCode::disconnected;
}

coredump::Information known_from(const coredump::Header& header) {
  coredump::Information known;
  known.node = header.node;
  known.epoch = header.epoch;
  known.boot_nonce = header.boot_nonce;
  known.reason = "not known: the dump does not say";
  return known;
}

}  // namespace

CoreCollector::CoreCollector(Ports ports, Rules rules) : ports_(std::move(ports)), rules_(rules) {}

CoreCollector::~CoreCollector() {
  *alive_ = false;
}

template <class F>
auto CoreCollector::in_step(F f) {
  return [this, alive = alive_, step = step_, f = std::move(f)](auto&&... arguments) mutable {
    if (*alive && step == step_ && !ended_) f(std::forward<decltype(arguments)>(arguments)...);
  };
}

void CoreCollector::start(std::function<void(const Outcome&)> done) {
  done_ = std::move(done);
  read_front();
}

CoreCollector::Progress CoreCollector::progress() const {
  if (!header_) return {};
  return {id_, std::min(raw_read_, header_->stored), header_->stored};
}

void CoreCollector::leave() {
  if (ended_ || std::exchange(leaves_, true)) return;
  MARK(collecting_left);
  if (!writing_header_) give_up("as ordered");
}

void CoreCollector::disk_needed() {
  if (ended_ || std::exchange(disk_needed_, true)) return;
  MARK(dump_disk_needed_by_raid);
  const bool inactive = header_ && header_->attribute == Attribute::inactive;
  if (writing_header_ || !header_ || inactive) return;  // as soon as that is over
  drop(needed);
}

void CoreCollector::end(End how, std::string text) {
  if (std::exchange(ended_, true)) return;
  ++step_;
  reader_.reset();
  ports_.scheduler.post([this, alive = alive_, how, text = std::move(text)]() mutable {
    if (*alive && done_) std::exchange(done_, nullptr)({how, id_, std::move(text)});
  });
}

// Whatever is left is for the next one.
void CoreCollector::give_up(std::string why) {
  end(End::interrupted, std::move(why));
}

void CoreCollector::failed(const Error& error) {
  const bool dropping = header_ && header_->attribute == Attribute::inactive;
  if (error.code == ErrorCode::no_space && !dropping) return drop("no space: " + error.message);
  give_up(error.message);
}

// True: `r` is good. Else it is tried again a little later, or this is the end.
template <class T>
bool CoreCollector::passes(const Result<T>& r, std::function<void()> again) {
  if (r) {
    retries_ = 0;
    return true;
  }
  if (!may_pass(r.error().code) || ++retries_ > max_retries) {
    failed(r.error());
    return false;
  }
  MARK(collecting_tried_again);
  ports_.scheduler.at(ports_.scheduler.now() + retry_delay, in_step(std::move(again)));
  return false;
}

// ---- label and header ----

void CoreCollector::read_front() {
  auto front = std::make_shared<std::vector<std::byte>>(front_size);
  ports_.disk.read(0, *front, in_step([this, front](const Result<void>& r) {
                     if (passes(r, [this] { read_front(); })) judge(*front);
                   }));
}

void CoreCollector::judge(Bytes front) {
  const auto area = [front](disk::Area a) { return front.subspan(a.offset, a.size); };
  const auto label = disk::choose_label(area(disk::label_copy(0)), area(disk::label_copy(1)));
  if (!label) return end(End::no_dump, label.error().message);
  auto header =
      coredump::choose_header(area(coredump::header_copy(0)), area(coredump::header_copy(1)));
  if (!header) return end(End::no_dump, header.error().message);
  const auto& l = label->label;
  const bool ours = l.cluster == rules_.cluster && l.owner == rules_.node &&
                    l.role != disk::Role::data && header->cluster == rules_.cluster &&
                    header->disk == l.id && header->node == rules_.node;
  if (!ours) return end(End::no_dump, "no dump of this node's own");
  if (header->attribute == Attribute::inactive) return end(End::no_dump, "no dump");
  header_ = *header;
  id_ = CoreFolder::id_of(header_->boot_nonce);
  if (ports_.in_use && ports_.in_use(l.id)) {
    MARK(dump_on_a_disk_in_use);
    return drop("the pool uses the disk");
  }
  if (disk_needed_) return drop(needed);
  if (header_->attribute != Attribute::active) return clean();
  // Who wrote it cannot do so any more: the disk is ours.
  write_header(Attribute::aborted, AbortReason::process_gone, [this] { clean(); });
}

void CoreCollector::write_header(Attribute attribute, AbortReason reason,
                                 std::function<void()> then) {
  header_->attribute = attribute;
  header_->abort_reason = reason;
  ++header_->sequence;
  auto block = coredump::encode_header(*header_);
  if (!block) return give_up(block.error().message);  // a sequence that has come to its end
  writing_header_ = true;
  write_copy(0, std::make_shared<std::vector<std::byte>>(std::move(*block)), std::move(then));
}

void CoreCollector::write_copy(int copy, std::shared_ptr<std::vector<std::byte>> block,
                               std::function<void()> then) {
  if (copy == coredump::header_copies) {
    writing_header_ = false;
    return header_written(std::move(then));
  }
  ports_.disk.write(
      coredump::header_copy(copy).offset, {copy_to_slice(*block)}, true,
      in_step([this, copy, block, then = std::move(then)](const Result<void>& r) mutable {
        if (r) {
          retries_ = 0;
          return write_copy(copy + 1, std::move(block), std::move(then));
        }
        auto again = [this, copy, block, then] { write_copy(copy, block, then); };
        (void)passes(r, again);
      }));
}

void CoreCollector::header_written(std::function<void()> then) {
  if (header_->attribute != Attribute::inactive) {
    if (disk_needed_) return drop(needed);
    if (leaves_) return give_up("as ordered");
  }
  then();
}

// ---- the directory ----

// What an interrupted collection has left, ours or of another disk, which starts anew as well.
void CoreCollector::clean() {
  ports_.folder.list(in_step([this](Result<CoreFolder::Found> found) {
    if (passes(found, [this] { clean(); })) look(std::move(*found));
  }));
}

void CoreCollector::look(CoreFolder::Found found) {
  std::vector<std::string> rests;
  for (const auto& stray : found.strays) rests.push_back(stray.substr(0, id_.size()));
  others_.clear();
  for (auto& core : found.cores) {
    if (!core.finished) {
      rests.push_back(core.id);
    } else if (core.id == id_) {
      MARK(core_saved_already);
      return write_header(Attribute::inactive, AbortReason::none,
                          [this] { end(End::saved, "was saved already"); });
    } else {
      others_.push_back(std::move(core));
    }
  }
  std::ranges::sort(others_, CoreFolder::older);
  // A stray beside a finished core (the draft of a JSON) must not take the core with it.
  std::erase_if(rests, [this](const std::string& id) {
    return std::ranges::find(others_, id, &CoreFolder::Core::id) != others_.end();
  });
  if (rules_.keep == 0) {
    return remove_all(std::move(rests), [this] { drop("no core files are kept (coredump.keep)"); });
  }
  remove_all(std::move(rests), [this] {
    ports_.folder.space(in_step([this](const Result<files::Space>& space) {
      if (passes(space, [this] { clean(); })) plan(*space);
    }));
  });
}

void CoreCollector::remove_all(std::vector<std::string> ids, std::function<void()> then) {
  if (ids.empty()) return then();
  const std::string id = ids.back();
  ports_.folder.remove(
      id, in_step([this, ids = std::move(ids), then = std::move(then)](const Result<void>& r) {
        if (!passes(r, [this, ids, then] { remove_all(ids, then); })) return;
        auto rest = ids;
        rest.pop_back();
        remove_all(std::move(rest), then);
      }));
}

// ---- room ----

std::uint64_t CoreCollector::used_by_cores() const {
  std::uint64_t used = 0;
  for (const auto& core : others_) used += core.used;
  return used;
}

std::uint64_t CoreCollector::reserve(const files::Space& space) const {
  return part_of(space.size, free_percent);
}

std::uint64_t CoreCollector::limit(const files::Space& space) const {
  return part_of(space.size, rules_.space_percent);
}

// How many blocks of a core are zeros only the dump itself knows: it is read twice if that matters.
void CoreCollector::plan(const files::Space& space) {
  const bool completed = header_->attribute == Attribute::completed;
  const std::uint64_t most = completed ? header_->core_total : header_->core_done;
  const std::uint64_t left = limit(space) - std::min(limit(space), used_by_cores());
  const std::uint64_t free = space.free - std::min(space.free, reserve(space));
  const bool fits = most > 0 && most <= std::min(left, free) && others_.size() < rules_.keep;
  if (!fits) return begin_pass(Pass::measuring);
  need_ = most;
  begin_pass(Pass::writing);
}

// The oldest go first, but only if that helps.
void CoreCollector::make_room(const files::Space& space) {
  if (need_ > limit(space)) {
    return drop(
        fmt::format("no space: it takes {} bytes, and core files may take {} "
                    "(coredump.space_limit_percent)",
                    need_, limit(space)));
  }
  const bool many = others_.size() >= rules_.keep;
  const bool over = used_by_cores() + need_ > limit(space);
  const bool tight = need_ + reserve(space) > space.free + freed_;
  if (!many && !over && !tight) {
    if (need_ + reserve(space) <= space.free) return begin_pass(Pass::writing);
    return wait_for_room();
  }
  if (others_.empty()) {
    return drop(fmt::format("no space: it takes {} bytes, {} are free in the root volume", need_,
                            space.free));
  }
  MARK(oldest_core_removed);
  const CoreFolder::Core oldest = others_.front();
  ports_.log(fmt::format("core {} is removed to make room for core {}", oldest.id, id_));
  remove_all({oldest.id}, [this, oldest, space] {
    freed_ += oldest.used;
    others_.erase(others_.begin());
    make_room(space);
  });
}

// Blocks of removed files become free little by little, or stay with a snapshot.
void CoreCollector::wait_for_room() {
  if (++retries_ > max_retries) {
    MARK(removed_cores_give_no_space);
    return drop("no space: what was removed is still held, perhaps by a snapshot");
  }
  ports_.scheduler.at(ports_.scheduler.now() + retry_delay, in_step([this] {
                        ports_.folder.space(in_step([this](const Result<files::Space>& space) {
                          if (!space) return failed(space.error());
                          make_room(*space);
                        }));
                      }));
}

// ---- chunks ----

void CoreCollector::begin_pass(Pass pass) {
  pass_ = pass;
  retries_ = 0;
  raw_read_ = blocks_ = last_block_ = 0;
  information_.reset();
  const auto data = disk::data_area(ports_.disk.geometry().size);
  auto reader = ChunkReader::make({header_->boot_nonce, header_->epoch},
                                  data ? std::min(header_->room, data->size) : 0);
  if (!reader) return give_up(reader.error().message);
  reader_ = std::move(*reader);
  if (pass_ == Pass::measuring) return next_chunk();
  ports_.folder.create(id_, in_step([this](const Result<Handle>& made) {
                         if (!passes(made, [this] { begin_pass(Pass::writing); })) return;
                         file_ = *made;
                         next_chunk();
                       }));
}

void CoreCollector::next_chunk() {
  if (reader_->phase() != ChunkReader::Phase::reading) return pass_over();
  if (ports_.in_use && ports_.in_use(header_->disk)) {
    MARK(dump_disk_taken_meanwhile);
    return drop(needed);
  }
  chunk_begun_ = ports_.scheduler.now();
  if (pass_ == Pass::writing) return check_space();
  read_chunk();
}

// Others write to the volume, too.
void CoreCollector::check_space() {
  ports_.folder.space(in_step([this](const Result<files::Space>& space) {
    if (!passes(space, [this] { check_space(); })) return;
    if (space->free < reserve(*space)) return drop("no space: the root volume fills up");
    read_chunk();
  }));
}

void CoreCollector::read_chunk() {
  const disk::Area area = reader_->next();
  auto bytes = std::make_shared<std::vector<std::byte>>(area.size);
  auto read = [this, bytes](const Result<void>& r) {
    if (r) {
      retries_ = 0;
      return take(*bytes);
    }
    const bool unreadable =
        r.error().code == ErrorCode::io_error || r.error().code == ErrorCode::invalid;
    if (!unreadable) return (void)passes(r, [this] { read_chunk(); });
    reader_->on_unreadable("the disk cannot read it: " + r.error().message);
    chunk_done();
  };
  ports_.disk.read(disk::data_offset + area.offset, *bytes, in_step(std::move(read)));
}

// Blocks of the core that are not all zeros, in pieces; the rest stays a hole.
void CoreCollector::take(Bytes bytes) {
  auto part = reader_->on_bytes(bytes);
  raw_read_ = reader_->raw_done();
  if (!part) {
    if (reader_->phase() == ChunkReader::Phase::reading) return read_chunk();
    return chunk_done();
  }
  if (part->kind == coredump::ChunkKind::information) {
    if (auto said = coredump::decode_information(part->plain)) {
      const bool of_this = said->node == header_->node && said->epoch == header_->epoch &&
                           said->boot_nonce == header_->boot_nonce;
      if (of_this) information_ = std::move(*said);
    }
    return chunk_done();
  }
  constexpr std::uint64_t block = filesystem::block_size;
  std::uint64_t at = reader_->core_done() - part->plain.size();
  pieces_.clear();
  for (Bytes rest = part->plain; !rest.empty();) {
    const auto size = std::min<std::uint64_t>(block - at % block, rest.size());
    const Bytes now = rest.first(size);
    rest = rest.subspan(size);
    if (!all_zero(now)) {
      if (std::exchange(last_block_, at / block + 1) != at / block + 1) ++blocks_;
      const bool joins = !pieces_.empty() &&
                         pieces_.back().offset + pieces_.back().bytes.size() == at &&
                         pieces_.back().bytes.size() + size <= piece_size;
      if (joins) {
        pieces_.back().bytes = {pieces_.back().bytes.data(), pieces_.back().bytes.size() + size};
      } else {
        pieces_.push_back({at, now});
      }
    }
    at += size;
  }
  std::ranges::reverse(pieces_);
  if (pass_ == Pass::measuring) pieces_.clear();
  write_pieces();
}

void CoreCollector::write_pieces() {
  if (pieces_.empty()) return chunk_done();
  ports_.folder.write(file_, pieces_.back().offset, pieces_.back().bytes,
                      in_step([this](const Result<void>& r) {
                        if (!passes(r, [this] { write_pieces(); })) return;
                        pieces_.pop_back();
                        write_pieces();
                      }));
}

// Half of the time belongs to others, and more while clients wait.
void CoreCollector::chunk_done() {
  const Instant now = ports_.scheduler.now();
  waiting_since_ = now;
  ports_.scheduler.at(now + std::min<Duration>(now - chunk_begun_, pause_max),
                      in_step([this] { make_way(); }));
}

void CoreCollector::make_way() {
  const Instant now = ports_.scheduler.now();
  const bool wait =
      ports_.clients_wait && ports_.clients_wait() && now < waiting_since_ + clients_patience;
  if (!wait) return next_chunk();
  MARK(collecting_makes_way);
  ports_.scheduler.at(now + clients_look, in_step([this] { make_way(); }));
}

void CoreCollector::pass_over() {
  if (reader_->core_done() == 0) {
    return drop("the dump cannot be read from its front on: " +
                (reader_->reason().empty() ? "it is empty" : reader_->reason()));
  }
  if (pass_ == Pass::writing) return finish();
  // The last bytes may end within a block, the JSON takes one, and so may the directory.
  need_ = (blocks_ + 3) * filesystem::block_size;
  ports_.folder.space(in_step([this](const Result<files::Space>& space) {
    if (passes(space, [this] { pass_over(); })) make_room(*space);
  }));
}

void CoreCollector::finish() {
  const bool complete = reader_->phase() == ChunkReader::Phase::complete;
  coredump::Outcome outcome{complete, reader_->core_done(), reader_->raw_done(), ""};
  outcome.end = complete ? "the dump is complete" : reader_->reason();
  if (header_->attribute == Attribute::aborted) {
    outcome.end += fmt::format("; aborted: {}", coredump::name(header_->abort_reason));
  }
  const auto details = coredump::to_json(information_.value_or(known_from(*header_)), outcome);
  ports_.folder.finish(id_, file_, outcome.core_bytes, blocks_ * filesystem::block_size, details,
                       in_step([this, complete, bytes = outcome.core_bytes](const Result<void>& r) {
                         if (!passes(r, [this] { finish(); })) return;
                         auto text = fmt::format("{} core of {} bytes",
                                                 complete ? "a complete" : "a truncated", bytes);
                         write_header(Attribute::inactive, AbortReason::none,
                                      [this, text] { end(End::saved, text); });
                       }));
}

// Nothing of it stays.
void CoreCollector::drop(std::string why) {
  ++step_;  // what is under way does not count any more
  retries_ = 0;
  reader_.reset();
  pieces_.clear();
  write_header(Attribute::inactive, AbortReason::none, [this, why = std::move(why)] {
    if (id_.empty()) return end(End::dropped, why);
    remove_all({id_}, [this, why] { end(End::dropped, why); });
  });
}

}  // namespace duet::node
