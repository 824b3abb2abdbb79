// How a request happens, live or in a replay: prepare() looks and changes nothing; commit() changes
// and cannot fail. In between, a live request is appended to the log.
//
//   live:    prepare -> ok: append encode(record) to the log -> commit -> (durable) -> reply
//   replay:  apply = decode, prepare, commit; a record that does not fit is an error, not a reply
//
// Nothing may change the volume between prepare() and its commit().
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "files/draft.h"
#include "files/record.h"

namespace duet::files {

struct Reply {
  Outcome outcome = Outcome::ok;
  std::string message;  // for people, if not ok
  FileKey file;         // made, found, changed or removed
  bool created = false;
  // The inodes that changed, with what they were before: among them the directories (NFS wcc_data,
  // change_info4). Empty: nothing had to be changed, and nothing needs to be logged.
  std::vector<InodeChange> changes;
  std::uint64_t number = 0;  // in the reply log (reply_log.h); 0: not kept there

  const InodeChange* change_of(FileKey of) const;
};

class Prepared {
 public:
  const Reply& reply() const { return reply_; }
  // Requires: the outcome is ok. Once.
  void commit();

 private:
  friend Prepared prepare(filesystem::View& view, const Record& record);
  explicit Prepared(filesystem::View& view) : draft_(view) {}

  Draft draft_;
  Reply reply_;
};

// Outcome busy: something that was looked at is not in memory, or memory is full; run it again from
// here once that is cured. For the log, `created` of the record is reply().file.inode if created.
Prepared prepare(filesystem::View& view, const Record& record);

// The root directory of a new volume, empty: it has no blocks yet.
Inode make_root_directory(const NewFile& file, std::int64_t time);

struct Applied {
  Reply reply;  // ok
  std::optional<RequestId> id;
};
// A record of the log. Errors: busy (as above), no_space (run a consistency point and apply it
// again; still: the pool is full), invalid, unsupported_version and io_error (the record does not
// fit, or what it needs is damaged: the message names both). Changes nothing if it fails.
Result<Applied> apply(filesystem::View& view, const filesystem::LogRecord& record);

}  // namespace duet::files
