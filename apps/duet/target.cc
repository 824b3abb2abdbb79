#include "target.h"

#include "base/ip_address.h"

namespace duet::cli {
namespace {

Result<Target> local(const std::string& path) {
  auto config = node::load_config(path);
  if (!config) return std::unexpected(config.error());
  Target t;
  t.names = config->node_names;
  t.socket = config->control_socket();
  t.config = std::move(*config);
  return t;
}

}  // namespace

Result<Target> find_target(const TargetOptions& o) {
  if (o.console.empty() && o.node.empty()) return local(o.config);
  Target t;
  t.secret_file = o.secret;
  std::array<Target::Remote, 3> nodes;
  if (!o.console.empty()) {
    auto console = node::load_console(o.console);
    if (!console) return std::unexpected(console.error());
    t.names = console->names;
    if (t.secret_file.empty()) t.secret_file = console->secret_file;
    for (std::size_t n : {1, 2}) nodes[n] = {console->addresses[n], console->ports[n]};
  }
  if (t.secret_file.empty()) {
    return fail(ErrorCode::invalid, "--node HOST:PORT needs --secret FILE (or --console FILE)");
  }
  if (o.node.empty()) {
    t.remotes = {nodes[1], nodes[2]};
  } else if (auto endpoint = Endpoint::parse(o.node)) {
    t.remotes = {{to_string(endpoint->address), endpoint->port}};
  } else if (o.console.empty()) {
    return fail(ErrorCode::invalid, "--node wants a numeric HOST:PORT, not '" + o.node + "'");
  } else {
    auto node = t.find_node(o.node);
    if (!node) return std::unexpected(node.error());
    t.remotes = {nodes[node->value()]};
  }
  return t;
}

}  // namespace duet::cli
