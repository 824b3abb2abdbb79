// The engine process of a node: started by duetd, never by hand.
#include <openssl/rand.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <fstream>
#include <memory>

#include "base/data_memory.h"
#include "base/sanitized.h"
#include "crash_signals.h"
#include "node/config.h"
#include "node/credentials.h"
#include "node/engine.h"
#include "node_disks.h"
#include "platform/crash_report.h"
#include "platform/engine_child.h"
#include "platform/event_loop.h"
#include "platform/fabric_mirror.h"
#include "platform/pmem_nvram.h"
#include "platform/shared_memory.h"
#include "platform/tcp_network.h"
#include "platform/undumped_memory.h"
#include "platform/unix_channel.h"

namespace duet {
namespace {

int give_up(const std::string& why) {
  spdlog::error("{}", why);
  return 1;
}

std::array<std::uint8_t, 16> random_uuid() {
  std::array<std::uint8_t, 16> uuid;
  ASSERT(RAND_bytes(uuid.data(), static_cast<int>(uuid.size())) == 1);
  return uuid;
}

// A blank region is formatted; a region of somebody else is refused.
Result<nvlog::OpenedRegion> open_region(const node::Config& config, ports::Nvram& nvram) {
  auto opened = nvlog::open_region(nvram, config.cluster, config.self);
  if (opened || opened.error().code != ErrorCode::not_found) return opened;
  spdlog::info("formatting the blank NVRAM region {}", config.nvram_path);
  auto formatted = nvlog::format_region(nvram, config.cluster, config.self, random_uuid());
  if (!formatted) return std::unexpected(formatted.error());
  return nvlog::open_region(nvram, config.cluster, config.self);
}

// Linux: the second number of statm is what is resident, in pages.
std::uint64_t memory_in_use() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t size = 0, resident = 0;
  statm >> size >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

// What clients store is in no core unless the configuration says so. A sanitizer must see every
// buffer by itself, and an engine that bears one is not dumped.
void take_data_memory() {
  if constexpr (!sanitized) use_data_memory(*new platform::UndumpedMemory);
}

std::int64_t wall_clock_ns() {
  return std::chrono::system_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

int run(const std::string& config_path, std::uint64_t nonce) {
  auto config = node::load_config(config_path);
  if (!config) return give_up(config.error().message);
  spdlog::set_default_logger(spdlog::stderr_logger_st(config->name_of(config->self) + "-engine"));
  auto secret = node::load_secret(config->secret_file);
  if (!secret) return give_up(secret.error().message);

  platform::EventLoop loop;
  auto memory = platform::SharedMemory::map(platform::engine_memory_descriptor);
  if (!memory) return give_up("not started by duetd: " + memory.error().message);
  platform::UnixChannel supervisor(loop, platform::engine_channel_descriptor);

  auto nvram = platform::PmemNvram::open(config->nvram_path, config->nvram_size,
                                         config->allow_volatile_nvram);
  if (!nvram) return give_up(nvram.error().message);
  spdlog::info("{}", (*nvram)->description());
  auto region = open_region(*config, **nvram);
  if (!region) return give_up(config->nvram_path + ": " + region.error().message);

  platform::FabricMirrorOptions mirror_options;
  mirror_options.provider = config->provider;
  mirror_options.listen = {config->address, config->mirror_port};
  mirror_options.self = node::interconnect_self(*config, BootNonce(nonce), *secret);
  mirror_options.region = (*nvram)->region();
  auto mirror = platform::FabricMirror::open(loop, std::move(mirror_options));
  if (!mirror) return give_up("NVRAM mirror: " + mirror.error().message);
  crash_at_once();
#ifndef DUET_KEEP_CRASH_HANDLERS
  platform::report_crashes();
#endif

  platform::TcpNetwork network(loop);
  for (const auto& service : config->services) {
    if (service.managed()) network.let_float(service.address);
  }
  std::array<Shelf, 3> disks;
  node::Engine::Ports ports{loop, **nvram,       **mirror,     network, supervisor, memory->state(),
                            {},   memory_in_use, wall_clock_ns};
  for (std::uint8_t n : {1, 2}) {
    disks[n] = open_shelf(loop, *config, NodeId(n), disk::KeyRole::engine, seconds(5));
    for (auto& disk : disks[n]) {
      if (auto started = disk->start(); !started) return give_up(started.error().message);
      ports.disks[n].push_back(disk.get());
    }
  }
  node::Engine engine(*config, *region, std::move(ports));
  engine.start([&loop] { loop.stop(); });
  loop.run();
  return give_up("the supervisor is gone");
}

}  // namespace
}  // namespace duet

int main(int argc, char** argv) {
  CLI::App app{"Engine of a Duet node. Started by duetd."};
  std::string config;
  std::uint64_t nonce = 0;
  app.add_option("--config", config)->required();
  app.add_option("--nonce", nonce, "of this boot")->required();
  CLI11_PARSE(app, argc, argv);
  // The supervisor decides about our end; a terminal's ^C goes to it.
  std::signal(SIGINT, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  duet::take_data_memory();
  return duet::run(config, nonce);
}
