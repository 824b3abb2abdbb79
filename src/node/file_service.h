// Files of one served identity: files::FileStore over its pool and its log.
//
// A change: prepared over the pool's memory, appended to the log and committed in one turn,
// answered when the log says that it is durable (I4). Nothing else can come in between, so changes
// need no locks, and their order is that of the log. What a look has seen is answered when it is
// durable, too (I13): it waits for the changes of the files that it looked at. No room in the log
// or in memory: it takes its turn behind what waits (LoggedStorage::take_turn).
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "files/file_store.h"
#include "node/logged_storage.h"
#include "pool/pool.h"

namespace duet::node {

class FileService final : public files::FileStore {
 public:
  // At the bound: busy. Those under way and those that are held back by drain().
  static constexpr std::size_t max_operations = 4096;

  // `pool`, active, and `logged` outlive us. `wall_clock_ns`: since 1970; none: all times are 0.
  FileService(ports::Scheduler& scheduler, pool::Pool& pool, LoggedStorage& logged,
              std::function<std::int64_t()> wall_clock_ns);
  ~FileService() override;

  // Reads the reply log; before that no change is begun. Error: what kept it from being read.
  void start(ports::Done<void> done);
  // What is under way ends, and `drained` is called; what comes now waits for resume().
  void drain(ports::Task drained);
  void resume();
  // Everything ends with not_served.
  void stop();

  std::size_t under_way() const { return operations_.size(); }
  std::uint64_t damaged_replies() const { return damaged_replies_; }

  // ---- files::FileStore ----
  void open_volume(const std::string& name, Done<files::Found> done) override;
  void change(files::Change change, Done<files::Changed> done) override;
  void get(const files::Handle& file, Done<filesystem::Inode> done) override;
  void look_up(const files::Handle& directory, const std::string& name,
               Done<files::Found> done) override;
  void read_symlink(const files::Handle& file, Done<std::string> done) override;
  void read(const files::Handle& file, std::uint64_t offset, std::uint64_t length,
            Done<files::Contents> done) override;
  void list(const files::Handle& directory, const files::ListRequest& request,
            Done<files::Listing> done) override;
  void get_attribute(const files::Handle& file, const std::string& name,
                     Done<std::vector<std::byte>> done) override;
  void list_attributes(const files::Handle& file, Done<std::vector<std::string>> done) override;
  void get_space(const files::Handle& file, Done<files::Space> done) override;

 private:
  struct Operation;
  template <class T>
  struct Looking;
  struct Changing;
  struct Reading;
  using Pointer = std::shared_ptr<Operation>;
  using View = filesystem::View;
  template <class T>
  using Attempt = files::Attempt<T>;

  template <class T>
  void look(std::function<Attempt<T>(View&)> work, Done<T> done);
  void begin(Pointer operation);
  void attempt(const Pointer& operation);
  void queue(const Pointer& operation);
  void run(const Pointer& operation, LoggedStorage::Over over);
  void ran(const Pointer& operation, const Status& status, const LoggedStorage::Over& over);
  void read_data(const std::shared_ptr<Reading>& reading);
  void answer_after(const Pointer& operation, LogSequence until);
  void finish(const Pointer& operation);
  void refuse_later(Pointer operation, files::Outcome outcome, std::string why);

  LogSequence unacknowledged(const std::vector<filesystem::FileKey>& files) const;
  void acknowledged(const std::vector<filesystem::FileKey>& files, LogSequence sequence);
  Status make_change(Changing& changing, View& view, const Pointer& self);
  void keep_reply(const files::LoggedReply& reply, LogSequence sequence);

  // The hidden directory of snapshots (file_service_snapshots.cc).
  bool is_root(filesystem::FileKey file, pool::VolumeKind kind) const;
  Attempt<files::Found> snapshots_of(filesystem::VolumeId volume) const;
  Attempt<files::Found> look_up_snapshot(View& view, filesystem::VolumeId volume,
                                         const std::string& name) const;
  Attempt<files::Listing> list_snapshots(const files::ListRequest& request) const;
  std::optional<files::Failure> hidden_name(const files::Request& request) const;

  ports::Scheduler& scheduler_;
  pool::Pool& pool_;
  LoggedStorage& logged_;
  std::function<std::int64_t()> clock_;
  bool started_ = false;
  bool stopped_ = false;
  bool draining_ = false;
  ports::Task drained_;
  std::set<Pointer> operations_;                               // under way
  std::deque<Pointer> held_;                                   // until resume() or start()
  std::map<filesystem::FileKey, LogSequence> unacknowledged_;  // the last change of each file
  struct Kept {
    files::LoggedReply reply;
    LogSequence sequence;  // of its record; none: on the disks
  };
  std::map<files::RequestId, Kept> replies_;
  std::map<std::uint64_t, files::RequestId> places_;  // of the reply log
  std::uint64_t damaged_replies_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::node
