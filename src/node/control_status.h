// What a node answers to the questions of an operator (admin/control.h), from what is at hand.
#pragma once

#include "admin/control.h"
#include "ha/veto.h"
#include "node/supervisor.h"

namespace duet::node {

// Those that an identity is served here without, by name, and why.
std::vector<admin::AbsentDisk> absent_disks(const ha::IdentitySnapshot& identity,
                                            const Config& config, Instant now);
admin::StatusReport status_report(Supervisor& supervisor, std::int64_t supervisor_pid);
admin::HealthReport health_report(Supervisor& supervisor);
// `rehearsed`: what the rehearsal of a takeover of the partner has found; none: there was none.
admin::CheckReport check_report(Supervisor& supervisor, const std::optional<ha::Vetoes>& rehearsed);

}  // namespace duet::node
