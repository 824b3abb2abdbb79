// The files of one served identity, for protocol servers: asynchronous, and everything that an
// answer says is durable. Implemented by node::FileService; rules and outcomes:
// docs/protocols/file_operations.md.
//
// Every callback is called once, from the scheduler. Outcome not_served: send no answer, the client
// will ask whoever serves next; busy: not now (NFS3ERR_JUKEBOX, NFS4ERR_DELAY). Answers leave only
// while the lease is valid: that is the protocol server's to check, as it sends them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "files/apply.h"
#include "files/handle.h"
#include "files/look.h"
#include "files/read_directory.h"
#include "files/reply_log.h"

namespace duet::files {

struct Found {
  Handle file;
  Inode inode;
};
struct Contents {
  std::vector<Slice> data;  // nothing is copied: it may be as many slices as blocks
  bool end_of_file = false;
  Inode inode;
};
struct Space {
  std::uint64_t size = 0;  // bytes, as all three
  std::uint64_t used = 0;
  std::uint64_t free = 0;
};

struct Change {
  Request request;
  // Of the files that the request names, as the client has them: one whose generation is not that
  // of the file is stale.
  std::vector<Handle> handles;
  // Given: it is executed at most once, also over a takeover, as long as the reply is among the
  // latest max_replies. The same id with another kind of request is another request.
  std::optional<RequestId> id;
};
struct Changed {
  Handle file;  // made, found, changed or removed
  bool created = false;
  bool repeated = false;                     // executed before, perhaps by another node
  std::int64_t time = 0;                     // when it was executed
  std::vector<InodeChange> changes;          // not of a repeated one ...
  std::vector<DirectoryChange> directories;  // ... but of both
};

class FileStore {
 public:
  template <class T>
  using Done = std::move_only_function<void(Attempt<T>)>;

  virtual ~FileStore() = default;

  // The root directory of a volume by its name. Failure: no_entry.
  virtual void open_volume(const std::string& name, Done<Found> done) = 0;
  virtual void change(Change change, Done<Changed> done) = 0;

  virtual void get(const Handle& file, Done<Inode> done) = 0;
  virtual void look_up(const Handle& directory, const std::string& name, Done<Found> done) = 0;
  virtual void read_symlink(const Handle& file, Done<std::string> done) = 0;
  // At most max_read bytes.
  virtual void read(const Handle& file, std::uint64_t offset, std::uint64_t length,
                    Done<Contents> done) = 0;
  // `request.directory` is that of the handle.
  virtual void list(const Handle& directory, const ListRequest& request, Done<Listing> done) = 0;
  virtual void get_attribute(const Handle& file, const std::string& name,
                             Done<std::vector<std::byte>> done) = 0;
  virtual void list_attributes(const Handle& file, Done<std::vector<std::string>> done) = 0;
  virtual void get_space(const Handle& file, Done<Space> done) = 0;

  static constexpr std::uint64_t max_read = 1 << 20;  // bytes
};

}  // namespace duet::files
