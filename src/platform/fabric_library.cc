#include "platform/fabric_library.h"

#include <rdma/fi_errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <cstdlib>

#include "base/assert.h"

namespace duet::platform {

void FidCloser::close(::fid* fid) {
  ASSERT(fi_close(fid) == 0);
}

Error fabric_error(const std::string& what, std::int64_t code) {
  return {ErrorCode::io_error,
          what + ": " + fi_strerror(static_cast<int>(code < 0 ? -code : code))};
}

Result<FabricInfo> fabric_info(const std::string& provider, const FabricAddress& address,
                               bool listen) {
  FabricInfo hints(fi_allocinfo());
  ASSERT(hints != nullptr);
  hints->fabric_attr->prov_name = ::strdup(provider.c_str());  // freed with the hints
  hints->ep_attr->type = FI_EP_MSG;
  hints->addr_format = FI_SOCKADDR_IN;
  hints->domain_attr->threading = FI_THREAD_DOMAIN;
  // All of them: we obey what comes back.
  hints->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_ALLOCATED | FI_MR_PROV_KEY | FI_MR_VIRT_ADDR;
  auto port = std::to_string(address.port);
  // FI_RMA_PMEM lets a write complete when it is persistent; not every provider has it.
  for (std::uint64_t persistence : {std::uint64_t{FI_RMA_PMEM}, std::uint64_t{0}}) {
    hints->caps = FI_MSG | FI_RMA | persistence;
    fi_info* found = nullptr;
    int code = fi_getinfo(FI_VERSION(1, 17), address.host.c_str(), port.c_str(),
                          FI_NUMERICHOST | (listen ? FI_SOURCE : 0), hints.get(), &found);
    if (code == 0) return FabricInfo(found);
    if (persistence == 0) {
      return std::unexpected(
          fabric_error("libfabric provider " + provider + " at " + address.host, code));
    }
  }
  UNREACHABLE();
}

Result<Fid<fid_fabric>> open_fabric(const fi_info& info) {
  fid_fabric* fabric = nullptr;
  if (int code = fi_fabric(info.fabric_attr, &fabric, nullptr); code != 0) {
    return std::unexpected(fabric_error("fi_fabric", code));
  }
  return Fid<fid_fabric>(fabric);
}

std::array<std::byte, 32> random_challenge() {
  std::array<std::byte, 32> bytes;
  ASSERT(::getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  return bytes;
}

}  // namespace duet::platform
