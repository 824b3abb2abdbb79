// The pair that a command is about, and how to reach a node of it: over the control socket of this
// machine's daemon, or from a third machine through a node's duet-apid.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "node/config.h"

namespace duet::cli {

struct Target {
  // Known to commands that need no daemon (init); none on a console.
  std::optional<node::Config> config;
  std::array<std::string, 3> names;  // by node number; on a console perhaps unknown
  std::string socket;                // of this machine's daemon; empty: remote
  struct Remote {
    std::string address;
    std::uint16_t port = 0;
  };
  std::vector<Remote> remotes;  // tried in this order
  std::string secret_file;

  // By name or number. Error: not_found.
  Result<NodeId> find_node(const std::string& name_or_number) const {
    return node::find_node(names, name_or_number);
  }
  std::string name_of(NodeId node) const {
    const auto& name = names[node.value() % names.size()];
    return name.empty() ? "node " + std::to_string(node.value()) : name;
  }
};

struct TargetOptions {
  std::string config;   // --config
  std::string console;  // --console
  std::string node;     // --node: HOST:PORT, or a node of the console file
  std::string secret;   // --secret: with --node HOST:PORT
};
// Errors: as of node::load_config; invalid, not_found.
Result<Target> find_target(const TargetOptions& options);

}  // namespace duet::cli
