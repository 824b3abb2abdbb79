// The core files of an identity: directory `cores` of its root volume, ID.core beside ID.json
// (docs/formats/coredump.md). A core without JSON is not finished: whoever wrote it was
// interrupted. Clients of the volume may put anything there: other names are left alone.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "files/file_store.h"
#include "ports/scheduler.h"

namespace duet::node {

class CoreFolder {
 public:
  static constexpr const char* volume = "vol0";
  static constexpr const char* name = "cores";
  static constexpr std::size_t max_names = 4096;  // looked at; what is beyond stays unseen
  static constexpr std::uint64_t max_details = 128 * 1024;  // bytes of the JSON

  struct Core {
    std::string id;  // boot nonce, 16 hexadecimal digits
    files::Handle file;
    std::uint64_t size = 0;    // bytes
    std::uint64_t used = 0;    // bytes on the disks
    std::int64_t created = 0;  // ns since 1970
    bool finished = false;     // the JSON is there
  };
  static bool older(const Core& a, const Core& b) {
    return std::tie(a.created, a.id) < std::tie(b.created, b.id);
  }
  struct Found {
    std::vector<Core> cores;          // by id
    std::vector<std::string> strays;  // our names that belong to no core: ID.tmp, ID.json
  };

  explicit CoreFolder(files::FileStore& store) : store_(store) {}
  ~CoreFolder() { *alive_ = false; }
  CoreFolder(const CoreFolder&) = delete;
  CoreFolder& operator=(const CoreFolder&) = delete;

  static std::string id_of(BootNonce boot_nonce);

  // All errors: cancelled (not served any more), busy, no_space, io_error; and not_found.
  // No directory is an empty one.
  void list(ports::Done<Found> done);
  void find(const std::string& id, ports::Done<Core> done);  // finished or not
  void read_details(const std::string& id, ports::Done<std::string> done);
  void read(const files::Handle& core, std::uint64_t offset, std::uint64_t length,
            ports::Done<std::vector<std::byte>> done);
  // What is not there is removed already. JSON first, so that no JSON speaks of a core half gone.
  void remove(const std::string& id, ports::Done<void> done);

  // An empty ID.core; makes the directory if it is not there.
  void create(const std::string& id, ports::Done<files::Handle> done);
  void write(const files::Handle& core, std::uint64_t offset, Bytes data, ports::Done<void> done);
  // Sets the size, then puts the JSON beside it, all of it or nothing. Durable when done. `used`:
  // bytes that were written.
  void finish(const std::string& id, const files::Handle& core, std::uint64_t size,
              std::uint64_t used, const std::string& details, ports::Done<void> done);
  void space(ports::Done<files::Space> done);

 private:
  template <class T, class F>
  files::FileStore::Done<T> then(F use);
  void open(ports::Done<files::Handle> done);
  void open_volume(ports::Done<files::Handle> done);
  void make(ports::Done<files::Handle> done);
  void list_from(const files::Handle& directory, std::uint64_t cookie,
                 std::shared_ptr<std::vector<files::ListedName>> names, ports::Done<Found> done);
  void remove_names(const files::Handle& directory, std::vector<std::string> names,
                    ports::Done<void> done);
  void create_file(const files::Handle& directory, const std::string& file_name,
                   ports::Done<files::Handle> done);
  template <class Request>
  void change(Request request, std::vector<files::Handle> handles,
              ports::Done<files::Changed> done);

  files::FileStore& store_;
  // Bytes by id, of cores that we wrote: inodes know only what a consistency point has written.
  std::map<std::string, std::uint64_t> written_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::node
