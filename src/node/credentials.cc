#include "node/credentials.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>

namespace duet::node {

Result<interconnect::ClusterSecret> load_secret(const std::string& path) {
  struct stat status{};
  std::ifstream file(path, std::ios::binary);
  if (!file || ::stat(path.c_str(), &status) != 0) {
    return fail(
        ErrorCode::not_found,
        fmt::format("cannot read the cluster secret {} (cluster.secret_file); make one with "
                    "`head -c 32 /dev/urandom` and copy it to both nodes",
                    path));
  }
  if ((status.st_mode & 077) != 0) {
    return fail(ErrorCode::refused,
                fmt::format("the cluster secret {} can be read by others; chmod 600 it", path));
  }
  std::string text(std::istreambuf_iterator<char>(file), {});
  if (text.size() < interconnect::min_secret_size || text.size() > interconnect::max_secret_size) {
    return fail(ErrorCode::invalid,
                fmt::format("the cluster secret {} has {} bytes, not {} to {}", path, text.size(),
                            interconnect::min_secret_size, interconnect::max_secret_size));
  }
  auto bytes = std::as_bytes(std::span(text));
  return interconnect::ClusterSecret(bytes.begin(), bytes.end());
}

interconnect::Self interconnect_self(const Config& config, BootNonce nonce,
                                     const interconnect::ClusterSecret& secret) {
  interconnect::Self self;
  self.cluster = config.cluster;
  self.node = config.self;
  self.nonce = nonce;
  self.software = software_version;
  self.secret = secret;
  return self;
}

}  // namespace duet::node
