#include "files/apply.h"

#include <algorithm>

#include "base/assert.h"
#include "files/directory_block.h"
#include "files/names.h"
#include "files/operations.h"
#include "files/reply_log.h"

namespace duet::files {
namespace {

// A name that is too long is no broken request, but an answer.
bool name_too_long(const Request& request) {
  return std::visit(
      [](const auto& r) {
        bool too_long = false;
        if constexpr (requires { r.name; }) too_long = r.name.size() > max_name;
        if constexpr (requires { r.to_name; }) too_long = too_long || r.to_name.size() > max_name;
        if constexpr (requires { r.target; }) too_long = too_long || r.target.size() > max_target;
        return too_long;
      },
      request);
}

// A snapshot can be looked at only.
Attempt<void> check_volume(filesystem::View& view, VolumeId volume) {
  auto next = view.next_inode(volume);
  if (next || next.error().code == ErrorCode::no_space) return {};
  if (next.error().code != ErrorCode::not_found) return refuse(next.error());
  auto root = view.inode({volume, filesystem::root_directory});
  if (!root) return refuse(root.error());
  return refuse(Outcome::read_only);
}

Attempt<Drafted> run(filesystem::View& view, Draft& draft, const Record& record) {
  if (name_too_long(record.request)) return refuse(Outcome::name_too_long);
  if (auto good = check(record.request); !good) {
    return refuse(Outcome::invalid, good.error().message);
  }
  if (auto good = check_volume(view, volume_of(record.request)); !good) {
    return std::unexpected(good.error());
  }
  auto drafted =
      std::visit([&](const auto& request) { return files::draft(draft, request, record.time); },
                 record.request);
  if (!drafted) return drafted;
  if (record.created != filesystem::no_inode &&
      (!drafted->created || drafted->file.inode != record.created)) {
    return refuse(Outcome::invalid, "another inode was made than the first time");
  }
  return drafted;
}

ErrorCode error_of(Outcome outcome) {
  if (outcome == Outcome::busy) return ErrorCode::busy;
  if (outcome == Outcome::no_space || outcome == Outcome::quota) return ErrorCode::no_space;
  return outcome == Outcome::io ? ErrorCode::io_error : ErrorCode::invalid;
}

}  // namespace

const InodeChange* Reply::change_of(FileKey of) const {
  auto found = std::ranges::find(changes, of, &InodeChange::file);
  return found == changes.end() ? nullptr : &*found;
}

void Prepared::commit() {
  ASSERT(reply_.outcome == Outcome::ok);
  draft_.commit();
}

Prepared prepare(filesystem::View& view, const Record& record) {
  Prepared prepared(view);
  Draft& draft = prepared.draft_;
  Reply& reply = prepared.reply_;
  auto refused = [&](const Failure& failure) {
    reply = {failure.outcome, failure.message, {}, false, {}, 0};
    return std::move(prepared);
  };
  auto drafted = run(view, draft, record);
  if (!drafted) return refused(drafted.error());
  reply.file = drafted->file;
  reply.created = drafted->created;
  reply.changes = draft.inodes();
  if (draft.empty()) return prepared;
  if (record.id) {
    auto kept = draft_reply(draft, reply_of(record, reply));
    if (!kept) return refused(kept.error());
    reply.number = *kept;
  }
  if (drafted->asks == Asks::for_space) {
    if (auto space = draft.reserve(volume_of(record.request)); !space) {
      return refused(space.error());
    }
  }
  return prepared;
}

Inode make_root_directory(const NewFile& file, std::int64_t time) {
  Inode inode = make_inode(FileType::directory, file, type_bits_directory, time);
  inode.links = 2;
  inode.parent = filesystem::root_directory;
  return inode;
}

Result<Applied> apply(filesystem::View& view, const filesystem::LogRecord& record) {
  auto decoded = decode_record(record);
  if (!decoded) return std::unexpected(decoded.error());
  Prepared prepared = prepare(view, *decoded);
  const Reply& reply = prepared.reply();
  if (reply.outcome != Outcome::ok) {
    return fail(error_of(reply.outcome),
                "file record of kind " + std::to_string(static_cast<int>(record.kind)) +
                    " for volume " + std::to_string(volume_of(decoded->request).value()) +
                    ", inode " + std::to_string(record.words[1]) + ": " +
                    std::string(name(reply.outcome)) +
                    (reply.message.empty() ? "" : ": " + reply.message));
  }
  prepared.commit();
  return Applied{reply, decoded->id};
}

}  // namespace duet::files
