// The commands about core files: core list, show, save, delete (admin::CoreOrder).
#pragma once

#include "arguments.h"
#include "target.h"

namespace duet::cli {

int core_list(const Target& target, const Arguments& arguments);
int core_show(const Target& target, const Arguments& arguments);
// In pieces, to a temporary file beside FILE, which takes FILE's name when all of it is durable.
int core_save(const Target& target, const Arguments& arguments);
int core_delete(const Target& target, const Arguments& arguments);

}  // namespace duet::cli
