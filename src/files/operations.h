// The looking half of every request that changes: on success all its changes are in the draft,
// nothing has been changed yet. Failures: those of the Outcome, as the rules of
// docs/protocols/file_operations.md say; busy and io from whatever is looked at.
#pragma once

#include <cstdint>

#include "files/draft.h"
#include "files/record.h"

namespace duet::files {

inline constexpr std::uint32_t max_links = 0x7fffffff;
inline constexpr unsigned max_depth = 4096;  // directories above one that is moved to another

inline constexpr std::uint64_t vdisk_held = 1;  // Inode.device of a vdisk: the administrator has it

enum class Asks : std::uint8_t { for_space, for_nothing };
struct Drafted {
  FileKey file;          // what was made, found, removed or changed
  bool created = false;  // it did not exist before
  Asks asks = Asks::for_space;
};

Attempt<Drafted> draft(Draft& draft, const Create& request, std::int64_t time);
Attempt<Drafted> draft(Draft& draft, const MakeDirectory& request, std::int64_t time);
Attempt<Drafted> draft(Draft& draft, const MakeSymlink& request, std::int64_t time);
Attempt<Drafted> draft(Draft& draft, const MakeSpecial& request, std::int64_t time);
Attempt<Drafted> draft(Draft& draft, const Link& request, std::int64_t time);
Attempt<Drafted> draft(Draft& draft, const Remove& request, std::int64_t time);
Attempt<Drafted> draft(Draft& draft, const Rename& request, std::int64_t time);
Attempt<Drafted> draft(Draft& draft, const SetInode& request, std::int64_t time);
Attempt<Drafted> draft(Draft& draft, const Write& request, std::int64_t time);
Attempt<Drafted> draft(Draft& draft, const Zero& request, std::int64_t time);
Attempt<Drafted> draft(Draft& draft, const SetAttribute& request, std::int64_t time);
Attempt<Drafted> draft(Draft& draft, const RemoveAttribute& request, std::int64_t time);
Attempt<Drafted> draft(Draft& draft, const CreateVdisk& request, std::int64_t time);
Attempt<Drafted> draft(Draft& draft, const DeleteVdisk& request, std::int64_t time);
Attempt<Drafted> draft(Draft& draft, const ResizeVdisk& request, std::int64_t time);

}  // namespace duet::files
