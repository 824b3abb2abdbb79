// Inside of file_service*.cc: the operations under way.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "node/file_service.h"

namespace duet::node {

// Notes which files are looked at.
class WatchedView final : public filesystem::View {
 public:
  using Inode = filesystem::Inode;
  using FileKey = filesystem::FileKey;
  using VolumeId = filesystem::VolumeId;
  using InodeNumber = filesystem::InodeNumber;

  WatchedView(filesystem::View& view, std::vector<FileKey>& looked)
      : view_(view), looked_(looked) {}

  Result<Inode> inode(FileKey file) override {
    note(file);
    return view_.inode(file);
  }
  Result<Bytes> block(FileKey file, std::uint64_t number) override {
    note(file);
    return view_.block(file, number);
  }
  Result<std::uint64_t> next_block(FileKey file, std::uint64_t from) override {
    note(file);
    return view_.next_block(file, from);
  }
  Status space(VolumeId volume, std::uint64_t blocks) override {
    return view_.space(volume, blocks);
  }
  Result<InodeNumber> next_inode(VolumeId volume) override { return view_.next_inode(volume); }
  InodeNumber allocate_inode(VolumeId volume) override { return view_.allocate_inode(volume); }
  void set_inode(FileKey file, const Inode& inode) override { view_.set_inode(file, inode); }
  MutableBytes change_block(FileKey file, std::uint64_t number) override {
    return view_.change_block(file, number);
  }
  void write(FileKey file, std::uint64_t offset, const std::vector<Slice>& data) override {
    view_.write(file, offset, data);
  }
  void zero(FileKey file, std::uint64_t offset, std::uint64_t length) override {
    view_.zero(file, offset, length);
  }

 private:
  void note(FileKey file) {
    if (looked_.empty() || looked_.back() != file) looked_.push_back(file);
  }

  filesystem::View& view_;
  std::vector<FileKey>& looked_;
};

struct FileService::Operation {
  virtual ~Operation() = default;
  // As an operation of the pool. Ok: the answer is there; busy: no room now, or not in memory.
  virtual Status work(View& view, const Pointer& self) = 0;
  virtual void refuse(files::Outcome outcome, std::string why) = 0;
  virtual void answer() = 0;

  bool changes = false;
  bool reading = false;
  bool logged = false;  // it is answered when its record is durable
  bool lacked = false;  // when it ran last, something was not in memory
  bool ended = false;
  std::vector<filesystem::FileKey> looked;
  LogSequence seen;        // what it has seen is durable when this is
  LogSequence not_before;  // ... and this
};

template <class T>
struct FileService::Looking : Operation {
  Status work(View& view, const Pointer&) override {
    auto found = look(view);
    if (!found && found.error().outcome == files::Outcome::busy) {
      return fail(ErrorCode::busy, found.error().message);
    }
    result = std::move(found);
    return {};
  }
  void refuse(files::Outcome outcome, std::string why) override {
    result = files::refuse(outcome, std::move(why));
  }
  void answer() override { std::exchange(done, nullptr)(std::move(*result)); }

  std::function<Attempt<T>(View&)> look;
  Done<T> done;
  std::optional<Attempt<T>> result;
};

struct FileService::Changing final : Operation {
  explicit Changing(FileService& of) : service(of) { changes = true; }
  Status work(View& view, const Pointer& self) override;
  void refuse(files::Outcome outcome, std::string why) override {
    result = files::refuse(outcome, std::move(why));
  }
  void answer() override { std::exchange(done, nullptr)(std::move(*result)); }

  FileService& service;
  files::Change change;
  Done<files::Changed> done;
  std::optional<Attempt<files::Changed>> result;
};

struct FileService::Reading final : Operation {
  Reading() { reading = true; }
  Status work(View&, const Pointer&) override { return {}; }
  void refuse(files::Outcome outcome, std::string why) override {
    result = files::refuse(outcome, std::move(why));
  }
  void answer() override { std::exchange(done, nullptr)(std::move(*result)); }
  // The bytes from `begin` to `end` of what was read from `from` on.
  void take(std::vector<Slice> data, std::uint64_t from, std::uint64_t begin, std::uint64_t end);

  files::Handle file;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  filesystem::Inode inode;
  Done<files::Contents> done;
  std::optional<Attempt<files::Contents>> result;
};

// Failure: stale.
files::Attempt<void> check_inode(const filesystem::Inode& inode, const files::Handle& handle);
// Failures: stale, busy, io; read_only for the hidden directory.
files::Attempt<filesystem::Inode> check_handle(filesystem::View& view, const files::Handle& handle);
// What LUNs hold is no business of file clients. Failures: stale, busy, io.
files::Attempt<void> check_no_lun(filesystem::View& view, const files::Request& request);
files::Changed repeated(const files::LoggedReply& reply);

}  // namespace duet::node
