#include "files/restore_file.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "base/coverage.h"
#include "base/zero.h"
#include "files/directory_block.h"

namespace duet::files {
namespace {

constexpr std::uint64_t read_size = 256 << 10;  // bytes

class Work : public std::enable_shared_from_this<Work> {
 public:
  Work(FileStore& store, FileRestore wanted, std::move_only_function<void(Status)> done)
      : store_(store), wanted_(std::move(wanted)), done_(std::move(done)) {}

  void start() {
    for (std::size_t at = 0; at <= wanted_.path.size();) {
      const std::size_t slash = std::min(wanted_.path.find('/', at), wanted_.path.size());
      if (slash > at) names_.push_back(wanted_.path.substr(at, slash - at));
      at = slash + 1;
    }
    const bool odd = std::ranges::any_of(
        names_, [](const std::string& name) { return name == "." || name == ".."; });
    if (names_.empty() || odd) {
      return done_(fail(ErrorCode::invalid,
                        "'" + wanted_.path + "' is no path of a file, from the volume's root"));
    }
    store_.open_volume(wanted_.volume, then<Found>("volume " + wanted_.volume, &Work::opened));
  }

 private:
  // Goes on with what was found; else the restore has failed, and `what` is the matter.
  template <class T>
  FileStore::Done<T> then(std::string what, void (Work::*next)(T)) {
    return [self = shared_from_this(), what = std::move(what), next](Attempt<T> attempt) {
      if (attempt) return (self.get()->*next)(std::move(*attempt));
      self->failed(what, attempt.error());
    };
  }

  void opened(Found root) {
    directory_ = root.file;
    store_.look_up(root.file, std::string(snapshot_directory_name),
                   then<Found>("the snapshots of " + wanted_.volume, &Work::found_snapshots));
  }
  void found_snapshots(Found snapshots) {
    store_.look_up(snapshots.file, wanted_.snapshot,
                   then<Found>("snapshot " + wanted_.snapshot, &Work::walk_shown));
  }
  // Down the path, in the snapshot first.
  void walk_shown(Found found) {
    shown_ = found;
    if (depth_ < names_.size()) {
      const std::string& name = names_[depth_++];
      return store_.look_up(found.file, name,
                            then<Found>("'" + name + "' in the snapshot", &Work::walk_shown));
    }
    if (found.inode.type != FileType::regular) {
      return done_(fail(ErrorCode::invalid, "'" + wanted_.path +
                                                "' is no regular file in the snapshot: only such "
                                                "files are restored"));
    }
    depth_ = 0;
    walk_live({directory_, {}});
  }
  void walk_live(Found found) {
    directory_ = found.file;
    if (depth_ + 1 < names_.size()) {
      const std::string& name = names_[depth_++];
      return store_.look_up(found.file, name,
                            then<Found>("directory '" + name +
                                            "' in the volume: make it again, "
                                            "and restore then",
                                        &Work::walk_live));
    }
    copy_ = copy_name(names_.back());
    change(Remove{directory_.file, copy_, RemoveWhat::any}, [this](Attempt<Changed> removed) {
      if (removed) MARK(file_restore_begun_before);
      if (!removed && removed.error().outcome != Outcome::no_entry) {
        return failed("what an earlier restore left, " + copy_, removed.error());
      }
      make_copy();
    });
  }

  void make_copy() {
    const Inode& inode = shown_.inode;
    const Create create{directory_.file,
                        copy_,
                        {static_cast<std::uint16_t>(inode.mode & 07777), inode.owner, inode.group},
                        CreateMode::guarded,
                        0,
                        {}};
    change(create, [this](Attempt<Changed> made) {
      if (!made) return failed("a copy beside it", made.error());
      made_ = made->file;
      copied_ = true;
      copy_data(0);
    });
  }
  void copy_data(std::uint64_t offset) {
    if (offset >= shown_.inode.size) return list_attributes();
    store_.read(shown_.file, offset, read_size,
                [self = shared_from_this(), offset](Attempt<Contents> read) {
                  if (!read) return self->failed("its data", read.error());
                  self->write(offset, read->data);
                });
  }
  // Holes stay holes: what is zero is left out.
  void write(std::uint64_t offset, const std::vector<Slice>& data) {
    pieces_.clear();
    next_ = offset;
    bool gap = true;
    for (const Slice& slice : data) {
      const bool zeros = all_zero(slice.bytes);
      if (!zeros && gap) pieces_.push_back({made_.file, next_, {}});
      if (!zeros) pieces_.back().data.push_back(slice);
      gap = zeros;
      next_ += slice.bytes.size();
    }
    if (next_ == offset) return list_attributes();
    write_pieces();
  }
  void write_pieces() {
    if (pieces_.empty()) return copy_data(next_);
    Write piece = std::move(pieces_.front());
    pieces_.pop_front();
    change(std::move(piece), [this](const Attempt<Changed>& written) {
      if (!written) return failed("its data", written.error());
      write_pieces();
    });
  }

  void list_attributes() {
    store_.list_attributes(shown_.file, then<std::vector<std::string>>("its extended attributes",
                                                                       &Work::copy_attributes));
  }
  void copy_attributes(std::vector<std::string> names) {
    if (names.empty()) return set_inode();
    const std::string name = names.back();
    names.pop_back();
    store_.get_attribute(
        shown_.file, name,
        [self = shared_from_this(), name, names](Attempt<std::vector<std::byte>> value) {
          if (!value) return self->failed("attribute " + name, value.error());
          self->change(SetAttribute{self->made_.file, name, SetMode::create, copy_to_slice(*value)},
                       [self = self.get(), name, names](Attempt<Changed> set) {
                         if (!set) return self->failed("attribute " + name, set.error());
                         self->copy_attributes(names);
                       });
        });
  }
  void set_inode() {
    const Inode& inode = shown_.inode;
    const SetInode set{made_.file, {}, {}, {}, inode.size, inode.accessed, inode.modified, {}};
    change(set, [this](Attempt<Changed> changed) {
      if (!changed) return failed("its size and times", changed.error());
      const Rename rename{directory_.file, copy_, directory_.file, names_.back()};
      this->change(rename, [this](Attempt<Changed> renamed) {
        if (!renamed) return failed("the name '" + names_.back() + "'", renamed.error());
        done_({});
      });
    });
  }

  template <class Next>
  void change(Request request, Next next) {
    store_.change({std::move(request), {}, {}},
                  [self = shared_from_this(), next = std::move(next)](
                      Attempt<Changed> changed) mutable { next(std::move(changed)); });
  }

  void failed(const std::string& what, const Failure& failure) {
    std::string why = what + ": " + std::string(name(failure.outcome));
    if (!failure.message.empty()) why += ", " + failure.message;
    const auto end = [this, error = Error{error_code(failure.outcome), std::move(why)}] {
      done_(std::unexpected(error));
    };
    // Not served: the store may be gone by now.
    if (!copied_ || failure.outcome == Outcome::not_served) return end();
    change(Remove{directory_.file, copy_, RemoveWhat::any},
           [end](const Attempt<Changed>&) { end(); });
  }

  FileStore& store_;
  FileRestore wanted_;
  std::move_only_function<void(Status)> done_;
  std::vector<std::string> names_;
  std::size_t depth_ = 0;
  Found shown_;       // by the snapshot
  Handle directory_;  // of the volume, where the file goes
  std::string copy_;
  Handle made_;
  bool copied_ = false;       // there is a copy
  std::deque<Write> pieces_;  // to be written now
  std::uint64_t next_ = 0;    // byte to read after them
};

}  // namespace

std::string copy_name(const std::string& name) {
  const std::string front = ".restore.";
  return front + name.substr(0, max_name - front.size());
}

void restore_file(FileStore& store, const FileRestore& wanted,
                  std::move_only_function<void(Status)> done) {
  std::make_shared<Work>(store, wanted, std::move(done))->start();
}

}  // namespace duet::files
