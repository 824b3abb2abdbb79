// Directories as the checker reads them.
#pragma once

#include "pool/checker.h"

namespace duet::pool {

// Checker::ReadDirectory.
Result<Checker::Names> directory_names(filesystem::View& view, FileKey directory,
                                       std::uint64_t from);

}  // namespace duet::pool
