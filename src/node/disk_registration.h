// The engine's own registration on the disks of an identity: made after its supervisor took the
// reservation, and verified before anything is written (I6). A few commands per disk; all disks at
// once.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "ports/disk.h"

namespace duet::node {

// Registers `key` on every disk and calls `may_read`, then checks that `holder` holds the
// reservation there and that `key` is registered. Nothing may be written before `done`. On failure
// the registrations that were made are taken back: a process that is not meant to write must not
// stay able to. Errors: reservation_conflict (another holder), or that of the first failing disk.
void register_engine(const std::vector<ports::Disk*>& disks, ReservationKey key,
                     ReservationKey holder, ports::Task may_read, ports::Done<void> done);

// Takes the registrations back. Failures do not matter: who has lost a disk has lost its
// registration.
void unregister_engine(const std::vector<ports::Disk*>& disks, ports::Done<void> done);

}  // namespace duet::node
