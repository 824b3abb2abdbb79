// libfabric objects with owners, and the choice of a provider. Facts about provider `tcp` that the
// adapters rest on: docs/protocols/interconnect.md.
#pragma once

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_eq.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"

namespace duet::platform {

struct FidCloser {
  // Nothing of ours may still refer to it: a region that would not close is a region that the
  // partner may still write to.
  template <class T>
  void operator()(T* object) const {
    close(&object->fid);
  }
  static void close(::fid* fid);
};
template <class T>
using Fid = std::unique_ptr<T, FidCloser>;

struct FabricInfoDeleter {
  void operator()(fi_info* info) const { fi_freeinfo(info); }
};
using FabricInfo = std::unique_ptr<fi_info, FabricInfoDeleter>;

struct FabricAddress {
  std::string host;        // numeric
  std::uint16_t port = 0;  // 0 when listening: the kernel chooses
};

// How `provider` ("tcp", "verbs") reaches `address`, or listens there. Blocks: for 0.1 s the first
// time in a process, 0.3 ms later. Error: io_error (unknown provider, no such interface).
Result<FabricInfo> fabric_info(const std::string& provider, const FabricAddress& address,
                               bool listen);
Result<Fid<fid_fabric>> open_fabric(const fi_info& info);

Error fabric_error(const std::string& what, std::int64_t code);

// From the kernel's random source.
std::array<std::byte, 32> random_challenge();

}  // namespace duet::platform
