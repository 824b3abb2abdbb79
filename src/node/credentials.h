// Who this node is on the interconnect: cluster, number, boot, and the secret that proves it.
#pragma once

#include <string>
#include <string_view>

#include "interconnect/handshake.h"
#include "node/config.h"

namespace duet::node {

inline constexpr std::string_view software_version = "duet 0.1";

// Errors: not_found, refused (others may read the file), invalid (too short or too long); each with
// the cure.
Result<interconnect::ClusterSecret> load_secret(const std::string& path);

interconnect::Self interconnect_self(const Config& config, BootNonce nonce,
                                     const interconnect::ClusterSecret& secret);

}  // namespace duet::node
