// Replies as people and as programs (JSON) read them.
#pragma once

#include <functional>
#include <string>

#include "admin/control.h"

namespace duet::cli {

std::string status_text(const admin::StatusReport& status);
std::string status_json(const admin::StatusReport& status);
std::string event_text(const admin::EventItem& event);  // one line each
std::string event_json(const admin::EventItem& event);
std::string luns_text(const admin::LunReply& reply);
std::string luns_json(const admin::LunReply& reply);
std::string disks_text(const admin::DiskReport& report);
std::string disks_json(const admin::DiskReport& report);
std::string health_text(const admin::HealthReport& report);
std::string health_json(const admin::HealthReport& report);
using NodeName = std::function<std::string(NodeId)>;
std::string check_text(const admin::CheckReport& report, const NodeName& name);
std::string check_json(const admin::CheckReport& report);
// render_pool.cc
std::string pool_text(const admin::PoolReport& report);
std::string pool_json(const admin::PoolReport& report);
std::string volumes_text(const admin::PoolReply& reply);
std::string snapshots_text(const admin::PoolReply& reply);
std::string volumes_json(const admin::PoolReply& reply);  // of both
// render_core.cc
std::string cores_text(const admin::CoreReply& reply);
std::string cores_json(const admin::CoreReply& reply);
std::string core_text(const admin::CoreItem& core);
std::string core_json(const admin::CoreItem& core);
std::string human_size(std::uint64_t bytes);

}  // namespace duet::cli
