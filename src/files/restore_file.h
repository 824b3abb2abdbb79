// One regular file goes back to what a snapshot of its volume shows: a copy beside it, that takes
// its name when it is complete and durable (docs/protocols/file_operations.md, Restore). So at any
// moment the name shows the file as it was or as it shall be; the only thing that an interruption
// leaves is the copy, and the next restore of the file removes that.
#pragma once

#include <string>

#include "base/result.h"
#include "files/file_store.h"

namespace duet::files {

struct FileRestore {
  std::string volume;
  std::string snapshot;
  std::string path;  // from the root of the volume; a slash in front may be left out
};

// `store` lives until it has answered, or said that it does not serve any more. Errors: not_found,
// invalid, refused, no_space, cancelled (not served any more).
void restore_file(FileStore& store, const FileRestore& wanted,
                  std::move_only_function<void(Status)> done);

// What the copy is called meanwhile.
std::string copy_name(const std::string& name);

}  // namespace duet::files
