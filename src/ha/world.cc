#include "ha/world.h"

#include "base/assert.h"

namespace duet::ha {

ReplayDecision decide_replay(const Mailbox& mailbox, std::uint64_t nvram) {
  switch (mailbox.durability) {
    case Durability::write_through:
      return {.possible = true, .replay = false};
    case Durability::local: {
      bool here = mailbox.nvram_server == nvram;
      return {.possible = here, .replay = here};
    }
    case Durability::mirrored: {
      bool here = mailbox.nvram_server == nvram || mailbox.nvram_mirror == nvram;
      return {.possible = here, .replay = here};
    }
  }
  UNREACHABLE();
}

}  // namespace duet::ha
