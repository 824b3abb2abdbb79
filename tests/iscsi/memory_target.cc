// A LUN in memory over iSCSI, to run other people's test suites and load generators against:
//   memory_target [MEBIBYTES]
// Prints two URLs of the same LUN, one per target port, and serves until a signal.
#include <signal.h>

#include <cstdio>
#include <cstdlib>

#include "memory_store.h"
#include "platform/event_loop.h"
#include "platform/tcp_network.h"

namespace {

constexpr const char* target_name = "iqn.2026-11.org.duet:memory";

}  // namespace

int main(int argc, char** argv) {
  using namespace duet;
  std::size_t size = (argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 64) << 20;
  platform::EventLoop loop;
  platform::TcpNetwork network(loop);
  services::IscsiServer server(loop, network);
  tests::MemoryStore store;
  services::ScsiTarget target(server, store);
  store.attach(target);
  store.add(LunNumber(0), size);
  target.add_unit(LunNumber(0), tests::memory_unit(target_name, LunNumber(0), size, 2));
  if (!server.add_target({.name = target_name, .alias = "memory", .backend = &target})) return 1;
  for (std::uint16_t port : {1, 2}) {
    auto portal = server.add_portal(target_name, {.address = "127.0.0.1",
                                                  .port = 0,
                                                  .group_tag = port,
                                                  .relative_target_port = port,
                                                  .advertised = {}});
    if (!portal) {
      std::fprintf(stderr, "%s\n", portal.error().message.c_str());
      return 1;
    }
    std::printf("iscsi://127.0.0.1:%u/%s/0\n", unsigned{server.port(*portal)}, target_name);
  }
  std::fflush(stdout);
  server.set_ready(target_name, true);
  loop.on_signals({SIGTERM, SIGINT}, [&](int) { loop.stop(); });
  loop.run();
  return 0;
}
