// The mark in the mailbox that says what the acknowledgements of an identity rest on.
#pragma once

#include "base/durability.h"
#include "base/ids.h"

namespace duet::nvlog {

using duet::Durability;

// The mailbox says: acknowledgements of `epoch` rest on `mode`. `sequence`: mirrored: the partner's
// copy is complete through it; local and write_through: nothing after it need be at the partner.
struct Mark {
  Durability mode = Durability::write_through;
  Epoch epoch;
  LogSequence sequence;
  bool operator==(const Mark&) const = default;
};

}  // namespace duet::nvlog
