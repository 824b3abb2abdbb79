#include "node/file_service.h"

#include <algorithm>
#include <utility>

#include "base/coverage.h"
#include "node/file_service_impl.h"

namespace duet::node {

using files::Outcome;
using filesystem::FileKey;

namespace {

// Why disks did not give what an operation needs, as a client sees it: never an error for what
// passes.
Outcome outcome_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::busy:
    case ErrorCode::timed_out:
    case ErrorCode::disconnected:
      return Outcome::busy;
    case ErrorCode::reservation_conflict:
    case ErrorCode::cancelled:
    case ErrorCode::refused:
      return Outcome::not_served;
    case ErrorCode::not_found:
      return Outcome::stale;
    case ErrorCode::invalid:
    case ErrorCode::unsupported_version:
    case ErrorCode::already_exists:
    case ErrorCode::no_space:
    case ErrorCode::io_error:
      return Outcome::io;
  }
  return Outcome::io;
}

}  // namespace

FileService::FileService(ports::Scheduler& scheduler, pool::Pool& pool, LoggedStorage& logged,
                         std::function<std::int64_t()> wall_clock_ns)
    : scheduler_(scheduler), pool_(pool), logged_(logged), clock_(std::move(wall_clock_ns)) {}

FileService::~FileService() {
  stop();
  *alive_ = false;
}

void FileService::start(ports::Done<void> done) {
  auto filled = [this, alive = alive_,
                 done = std::move(done)](Result<std::vector<Slice>> bytes) mutable {
    if (!*alive) return done(fail(ErrorCode::cancelled, "the identity is not served any more"));
    if (!bytes && bytes.error().code != ErrorCode::not_found) {  // there may be none yet
      return done(std::unexpected(bytes.error()));
    }
    for (const Slice& slice : bytes.value_or(std::vector<Slice>())) {
      const auto found = files::decode_replies(slice.bytes);
      damaged_replies_ += found.damaged;
      for (const auto& reply : found.replies) keep_reply(reply, {});
    }
    started_ = true;
    resume();
    done({});
  };
  pool_.read_file(files::reply_log, 0, files::reply_log_size, std::move(filled));
}

// ---- life of an operation ----

void FileService::begin(Pointer operation) {
  if (stopped_) return refuse_later(std::move(operation), Outcome::not_served, "");
  if (operations_.size() + held_.size() >= max_operations) {
    MARK(too_many_file_operations);
    return refuse_later(std::move(operation), Outcome::busy, "too many operations");
  }
  if (draining_ || !started_) return held_.push_back(std::move(operation));
  operations_.insert(operation);
  attempt(operation);
}

void FileService::attempt(const Pointer& operation) {
  if (operation->reading) return read_data(std::static_pointer_cast<Reading>(operation));
  if (operation->changes && logged_.crowded()) return queue(operation);
  run(operation, {});
}

// Behind what waits for room.
void FileService::queue(const Pointer& operation) {
  auto turn = logged_.take_turn([this, alive = alive_, operation](LoggedStorage::Over over) {
    if (!*alive || operation->ended) {
      return over(true);
    }
    run(operation, std::move(over));
  });
  if (turn) return;
  const bool busy = turn.error().code == ErrorCode::busy;
  refuse_later(operation, busy ? Outcome::busy : Outcome::not_served, turn.error().message);
}

void FileService::run(const Pointer& operation, LoggedStorage::Over over) {
  pool_.run(
      [this, alive = alive_, operation](View& view) -> Status {
        if (!*alive || operation->ended) return {};
        operation->looked.clear();
        WatchedView watched(view, operation->looked);
        Status status = operation->work(watched, operation);
        operation->lacked = pool_.lacks_something();
        // As of this turn: whatever comes later it has not seen.
        operation->seen = std::max(unacknowledged(operation->looked), operation->not_before);
        return status;
      },
      [this, alive = alive_, operation, over = std::move(over)](const Status& status) {
        if (*alive) ran(operation, status, over);
      });
}

void FileService::ran(const Pointer& operation, const Status& status,
                      const LoggedStorage::Over& over) {
  const bool waits =
      !status && !operation->lacked && !operation->ended && status.error().code == ErrorCode::busy;
  if (waits) {
    if (over) return over(false);
    return queue(operation);
  }
  if (over) over(true);
  if (operation->ended || (status && operation->logged)) return;  // answered when it is durable
  if (!status) operation->refuse(outcome_of(status.error().code), status.error().message);
  answer_after(operation, operation->seen);
}

void FileService::answer_after(const Pointer& operation, LogSequence until) {
  logged_.hold(until, [this, alive = alive_, operation](bool acknowledged) {
    if (!*alive || operation->ended) return;
    if (!acknowledged) operation->refuse(Outcome::not_served, "");
    finish(operation);
  });
}

void FileService::finish(const Pointer& operation) {
  operation->ended = true;
  const auto kept = operations_.extract(operation);  // alive until it is answered
  if (draining_ && drained_ && operations_.empty()) {
    scheduler_.post([alive = alive_, drained = std::exchange(drained_, nullptr)]() mutable {
      if (*alive) drained();
    });
  }
  operation->answer();
}

void FileService::refuse_later(Pointer operation, Outcome outcome, std::string why) {
  operation->refuse(outcome, std::move(why));
  scheduler_.post([this, alive = alive_, operation] {
    if (operation->ended) return;
    if (*alive) return finish(operation);
    operation->ended = true;
    operation->answer();
  });
}

void FileService::drain(ports::Task drained) {
  draining_ = true;
  drained_ = std::move(drained);
  if (!operations_.empty()) return;
  scheduler_.post([alive = alive_, task = std::exchange(drained_, nullptr)]() mutable {
    if (*alive) task();
  });
}

void FileService::resume() {
  draining_ = false;
  drained_ = nullptr;
  if (!started_) return;
  for (Pointer& operation : std::exchange(held_, {})) begin(std::move(operation));
}

void FileService::stop() {
  if (std::exchange(stopped_, true)) return;
  drained_ = nullptr;
  for (const Pointer& operation : std::exchange(held_, {})) operations_.insert(operation);
  for (const Pointer& operation : std::exchange(operations_, {})) {
    if (operation->ended) continue;
    operation->refuse(Outcome::not_served, "");
    refuse_later(operation, Outcome::not_served, "");
  }
}

// ---- what is not acknowledged yet ----

LogSequence FileService::unacknowledged(const std::vector<FileKey>& files) const {
  LogSequence last;
  if (unacknowledged_.empty()) return last;
  for (const FileKey& file : files) {
    auto found = unacknowledged_.find(file);
    if (found != unacknowledged_.end()) last = std::max(last, found->second);
  }
  return last;
}

void FileService::acknowledged(const std::vector<FileKey>& files, LogSequence sequence) {
  for (const FileKey& file : files) {
    auto found = unacknowledged_.find(file);
    if (found != unacknowledged_.end() && found->second == sequence) unacknowledged_.erase(found);
  }
}

// ---- changes ----

void FileService::change(files::Change change, Done<files::Changed> done) {
  auto changing = std::make_shared<Changing>(*this);
  changing->change = std::move(change);
  changing->done = std::move(done);
  begin(std::move(changing));
}

Status FileService::Changing::work(View& view, const Pointer& self) {
  return service.make_change(*this, view, self);
}

Status FileService::make_change(Changing& changing, View& view, const Pointer& self) {
  const auto end = [&](const files::Failure& failure) -> Status {
    if (failure.outcome == Outcome::busy) return fail(ErrorCode::busy, failure.message);
    changing.result = std::unexpected(failure);
    return {};
  };
  if (pool_.state() != filesystem::StorageState::active) {
    return end({Outcome::not_served, pool_.health()});
  }
  files::Change& change = changing.change;
  if (change.id) {
    auto known = replies_.find(*change.id);
    if (known != replies_.end() && known->second.reply.kind == files::kind_of(change.request)) {
      MARK(file_request_repeated);
      changing.result = repeated(known->second.reply);
      changing.not_before = known->second.sequence;
      return {};
    }
  }
  if (auto hidden = hidden_name(change.request)) return end(*hidden);
  for (const files::Handle& handle : change.handles) {
    if (auto good = check_handle(view, handle); !good) return end(good.error());
  }
  if (auto good = check_no_lun(view, change.request); !good) return end(good.error());

  files::Record record{change.request, clock_ ? clock_() : 0, change.id, {}};
  files::Prepared prepared = files::prepare(view, record);
  const files::Reply& reply = prepared.reply();
  if (reply.outcome != Outcome::ok) return end({reply.outcome, reply.message});
  files::Changed changed;
  changed.created = reply.created;
  changed.time = record.time;
  changed.changes = reply.changes;
  changed.file.file = reply.file;
  if (const auto* of = reply.change_of(reply.file); of != nullptr) {
    changed.file.generation = (reply.created ? of->after : of->before).created;
  } else {
    auto inode = view.inode(reply.file);  // looked at before
    if (inode) changed.file.generation = inode->created;
  }
  if (reply.changes.empty()) {
    changing.result = std::move(changed);
    return {};
  }
  if (reply.created) record.created = reply.file.inode;
  std::vector<FileKey> touched;
  for (const auto& each : reply.changes) touched.push_back(each.file);
  auto sequence = std::make_shared<LogSequence>();
  auto appended = logged_.append(
      files::encode(record), [&] { prepared.commit(); },
      [this, alive = alive_, self, touched, sequence](const Result<void>& r) {
        if (!*alive) return;
        acknowledged(touched, *sequence);
        if (self->ended) return;
        if (!r) self->refuse(Outcome::not_served, r.error().message);
        finish(self);
      });
  if (!appended) {
    if (appended.error().code == ErrorCode::busy) return std::unexpected(appended.error());
    return end({outcome_of(appended.error().code), appended.error().message});
  }
  *sequence = *appended;
  changing.logged = true;
  for (const FileKey& file : touched) unacknowledged_[file] = *appended;
  const files::LoggedReply logged = files::reply_of(record, reply);
  for (const auto& directory : logged.directories) {
    if (directory.directory != filesystem::no_inode) changed.directories.push_back(directory);
  }
  if (record.id) keep_reply(logged, *appended);
  changing.result = std::move(changed);
  return {};
}

// Of those of one place in the reply log the youngest is there.
void FileService::keep_reply(const files::LoggedReply& reply, LogSequence sequence) {
  const std::uint64_t place = reply.number % files::max_replies;
  if (auto before = places_.find(place); before != places_.end()) {
    auto old = replies_.find(before->second);
    if (old != replies_.end() && old->second.reply.number % files::max_replies == place) {
      if (old->second.reply.number > reply.number) return;
      replies_.erase(old);
    }
  }
  auto& kept = replies_[reply.id];
  if (kept.reply.number > reply.number) return;
  places_[place] = reply.id;
  kept = {reply, sequence};
}

// ---- looks ----

template <class T>
void FileService::look(std::function<Attempt<T>(View&)> work, Done<T> done) {
  auto looking = std::make_shared<Looking<T>>();
  looking->look = std::move(work);
  looking->done = std::move(done);
  begin(std::move(looking));
}

void FileService::open_volume(const std::string& name, Done<files::Found> done) {
  look<files::Found>(
      [this, name](View& view) -> Attempt<files::Found> {
        for (const auto& volume : pool_.volumes()) {
          if (volume.kind != pool::VolumeKind::volume || volume.name != name) continue;
          const FileKey root{volume.id, filesystem::root_directory};
          auto inode = files::get_inode(view, root);
          if (!inode) return std::unexpected(inode.error());
          return files::Found{{root, inode->created}, *inode};
        }
        return files::refuse(Outcome::no_entry, "there is no volume " + name);
      },
      std::move(done));
}

void FileService::get(const files::Handle& file, Done<filesystem::Inode> done) {
  look<filesystem::Inode>(
      [this, file](View& view) -> Attempt<filesystem::Inode> {
        if (file.file.inode == files::snapshot_directory) {
          auto hidden = snapshots_of(file.file.volume);
          if (!hidden) return std::unexpected(hidden.error());
          return hidden->inode;
        }
        return check_handle(view, file);
      },
      std::move(done));
}

void FileService::look_up(const files::Handle& directory, const std::string& name,
                          Done<files::Found> done) {
  look<files::Found>(
      [this, directory, name](View& view) -> Attempt<files::Found> {
        const FileKey in = directory.file;
        if (in.inode == files::snapshot_directory) return look_up_snapshot(view, in.volume, name);
        if (auto good = check_handle(view, directory); !good) return std::unexpected(good.error());
        if (name == files::snapshot_directory_name && is_root(in, pool::VolumeKind::volume)) {
          return snapshots_of(in.volume);
        }
        if (name == ".." && is_root(in, pool::VolumeKind::snapshot)) {
          return snapshots_of(pool_.find_volume(in.volume)->parent);
        }
        auto found = files::lookup(view, in, name);
        if (!found) return std::unexpected(found.error());
        return files::Found{{found->file, found->inode.created}, found->inode};
      },
      std::move(done));
}

void FileService::read_symlink(const files::Handle& file, Done<std::string> done) {
  look<std::string>(
      [file](View& view) -> Attempt<std::string> {
        if (auto good = check_handle(view, file); !good) return std::unexpected(good.error());
        return files::read_symlink(view, file.file);
      },
      std::move(done));
}

void FileService::list(const files::Handle& directory, const files::ListRequest& request,
                       Done<files::Listing> done) {
  files::ListRequest list = request;
  list.directory = directory.file;
  look<files::Listing>(
      [this, directory, list](View& view) -> Attempt<files::Listing> {
        if (directory.file.inode == files::snapshot_directory) return list_snapshots(list);
        if (auto good = check_handle(view, directory); !good) return std::unexpected(good.error());
        auto listing = files::list(view, list);
        if (listing && is_root(directory.file, pool::VolumeKind::snapshot)) {
          for (auto& name : listing->names) {
            if (name.cookie == files::cookie_dot_dot) name.inode = files::snapshot_directory;
          }
        }
        return listing;
      },
      std::move(done));
}

void FileService::get_attribute(const files::Handle& file, const std::string& name,
                                Done<std::vector<std::byte>> done) {
  look<std::vector<std::byte>>(
      [file, name](View& view) -> Attempt<std::vector<std::byte>> {
        if (auto good = check_handle(view, file); !good) return std::unexpected(good.error());
        return files::get_attribute(view, file.file, name);
      },
      std::move(done));
}

void FileService::list_attributes(const files::Handle& file, Done<std::vector<std::string>> done) {
  look<std::vector<std::string>>(
      [file](View& view) -> Attempt<std::vector<std::string>> {
        if (auto good = check_handle(view, file); !good) return std::unexpected(good.error());
        return files::list_attributes(view, file.file);
      },
      std::move(done));
}

void FileService::get_space(const files::Handle& file, Done<files::Space> done) {
  look<files::Space>(
      [this, file](View&) -> Attempt<files::Space> {
        auto volume = pool_.find_volume(file.file.volume);
        if (!volume || volume->deleting) return files::refuse(Outcome::stale);
        const auto capacity = pool_.capacity();
        files::Space space{capacity.size, volume->used, capacity.free};
        if (volume->quota > 0) {
          space.size = std::min(space.size, volume->quota);
          space.free = std::min(space.free, volume->quota - std::min(volume->quota, space.used));
        }
        return space;
      },
      std::move(done));
}

// ---- contents ----

void FileService::read(const files::Handle& file, std::uint64_t offset, std::uint64_t length,
                       Done<files::Contents> done) {
  auto reading = std::make_shared<Reading>();
  reading->file = file;
  reading->offset = offset;
  reading->length = std::min(length, max_read);
  reading->done = std::move(done);
  begin(std::move(reading));
}

// What is read, and what the inode says of it, are of the same turn.
void FileService::read_data(const std::shared_ptr<Reading>& reading) {
  const std::uint64_t last = filesystem::max_file_size;
  const std::uint64_t begin = std::min(reading->offset, last);
  const std::uint64_t end = begin + std::min(reading->length, last - begin);
  const std::uint64_t from = begin / filesystem::sector_size * filesystem::sector_size;
  const std::uint64_t to =
      (end + filesystem::sector_size - 1) / filesystem::sector_size * filesystem::sector_size;
  const FileKey key = reading->file.file;
  if (key.inode == files::snapshot_directory || key.volume == pool::pool_volume) {
    return refuse_later(
        reading, key.inode == files::snapshot_directory ? Outcome::is_directory : Outcome::stale,
        "");
  }
  const auto look = [this, alive = alive_, reading, key](const filesystem::Inode& inode) -> Status {
    if (!*alive) return fail(ErrorCode::cancelled, "not served");
    reading->seen = unacknowledged({key});
    reading->inode = inode;
    const bool readable =
        inode.type == filesystem::FileType::regular || inode.type == filesystem::FileType::vdisk;
    if (auto good = check_inode(inode, reading->file); !good) {
      reading->result = std::unexpected(good.error());
    } else if (inode.type == filesystem::FileType::directory) {
      reading->result = files::refuse(Outcome::is_directory);
    } else if (!readable) {
      reading->result = files::refuse(Outcome::invalid, "a file without data");
    }
    if (reading->result) return fail(ErrorCode::invalid, "not to be read");
    return {};
  };
  pool_.read_file(
      key, from, to - from,
      [this, alive = alive_, reading, begin, end, from](Result<std::vector<Slice>> data) {
        if (!*alive || reading->ended) return;
        if (data) {
          const std::uint64_t size = reading->inode.size;
          reading->take(std::move(*data), from, begin, std::max(begin, std::min(end, size)));
          reading->result->value().end_of_file = end >= size;
        } else if (!reading->result) {
          reading->refuse(outcome_of(data.error().code), data.error().message);
          // Gone by now, or never there: by a change that may wait.
          reading->seen = std::max(reading->seen, unacknowledged({reading->file.file}));
        }
        answer_after(reading, reading->seen);
      },
      look);
}

}  // namespace duet::node
