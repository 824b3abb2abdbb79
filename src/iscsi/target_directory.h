// What a connection asks about the targets behind its portal: plain queries, answered at once.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace duet::iscsi {

struct TargetInfo {
  bool ready = true;  // false: known, but cannot serve now; initiators are told to come back
  std::string alias;  // may be empty
};

struct DiscoveredTarget {
  std::string name;
  std::vector<std::string> addresses;  // "127.0.0.1:3260,1": address, port, portal group tag
};

class TargetDirectory {
 public:
  virtual ~TargetDirectory() = default;
  // Nothing for a name that nobody here has ever served.
  virtual std::optional<TargetInfo> find(std::string_view name) const = 0;
  // Targets that can be logged in to now.
  virtual std::vector<DiscoveredTarget> discover() const = 0;
};

}  // namespace duet::iscsi
