// Tickles: see ports::Addresses::tickle. Needs CAP_NET_RAW.
#pragma once

#include <vector>

#include "base/ip_address.h"

namespace duet::platform {

// From `service` to each client of its family, at most
// ports::Addresses::max_tickles of them. Nothing happens where the address is
// not here. May be lost.
void send_tickles(const Endpoint& service, const std::vector<Endpoint>& clients);

}  // namespace duet::platform
