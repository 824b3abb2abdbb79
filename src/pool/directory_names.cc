#include "pool/directory_names.h"

#include "files/read_directory.h"

namespace duet::pool {

Result<Checker::Names> directory_names(filesystem::View& view, FileKey directory,
                                       std::uint64_t from) {
  const files::ListRequest request{.directory = directory, .cookie = from, .dots = false};
  auto listing = files::list(view, request);
  if (!listing) return fail(ErrorCode::io_error, listing.error().message);
  Checker::Names names;
  names.end = listing->end || listing->names.empty();
  for (const files::ListedName& entry : listing->names) {
    names.names.emplace_back(entry.name, entry.inode);
    names.next = entry.cookie;
  }
  return names;
}

}  // namespace duet::pool
