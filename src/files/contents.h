// Changes of the bytes of a file, in sectors as a View wants them: what is not a whole sector is
// merged with what is there.
#pragma once

#include <cstdint>
#include <vector>

#include "files/draft.h"

namespace duet::files {

// Bytes beyond `inode.size` are zeros, before and after all of these. Failures: busy, io.
Attempt<void> write_bytes(Draft& draft, FileKey file, const Inode& inode, std::uint64_t offset,
                          const std::vector<Slice>& data);
Attempt<void> zero_bytes(Draft& draft, FileKey file, const Inode& inode, std::uint64_t offset,
                         std::uint64_t length);
// Sets the size; what is cut off is freed.
Attempt<void> resize(Draft& draft, FileKey file, std::uint64_t size);

}  // namespace duet::files
