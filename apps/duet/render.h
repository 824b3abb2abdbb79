// Replies as people and as programs (JSON) read them.
#pragma once

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

}  // namespace duet::cli
