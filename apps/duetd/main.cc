// The supervisor process of a node.
#include <fmt/format.h>
#include <openssl/rand.h>
#include <sched.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>
#include <utility>

#include "crash_signals.h"
#include "node/config.h"
#include "node/control_service.h"
#include "node/credentials.h"
#include "node/supervisor.h"
#include "node_disks.h"
#include "platform/engine_child.h"
#include "platform/event_loop.h"
#include "platform/fabric_interconnect.h"
#include "platform/netlink_addresses.h"
#include "platform/unix_channel.h"

namespace duet {
namespace {

// A supervisor decides within a second: it learns early that a disk does not answer.
constexpr Duration disk_limit = seconds(2);

int give_up(const std::string& why) {
  spdlog::error("{}", why);
  return 1;
}

BootNonce random_nonce() {
  std::uint64_t n = 0;
  while (n == 0) ASSERT(RAND_bytes(reinterpret_cast<unsigned char*>(&n), sizeof n) == 1);
  return BootNonce(n);
}

std::int64_t wall_clock_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_REALTIME, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

// What a busy machine must not take from a supervisor. Best effort: said aloud when it cannot be
// had. Returns whether its memory is locked.
bool protect_from_load() {
  bool locked = ::mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0;
  if (!locked) {
    spdlog::warn(
        "memory cannot be locked ({}): heartbeats may be late under memory pressure; raise "
        "RLIMIT_MEMLOCK",
        std::strerror(errno));
  }
  sched_param priority{};
  priority.sched_priority = 10;
  if (::sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &priority) != 0) {
    spdlog::warn("no real-time priority ({}): heartbeats may be late under load",
                 std::strerror(errno));
  }
  return locked;
}

// From memory of the kernel: does not wait for a disk.
node::MemoryFacts memory_facts(bool locked) {
  std::ifstream info("/proc/meminfo");
  std::string key, unit;
  std::uint64_t kib = 0;
  while (info >> key >> kib >> unit) {
    if (key == "MemAvailable:") return {true, locked, kib << 10};
  }
  return {};
}

void log_event(const admin::EventItem& event) {
  auto level = event.severity == "error"     ? spdlog::level::err
               : event.severity == "warning" ? spdlog::level::warn
                                             : spdlog::level::info;
  spdlog::log(level, "{}: {}", event.phase, event.text);
}

// The engine's program lies beside ours.
std::string engine_program() {
  std::error_code error;
  auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? "duet-engine" : (self.parent_path() / "duet-engine").string();
}

int run(const std::string& config_path) {
  auto config = node::load_config(config_path);
  if (!config) return give_up(config.error().message);
  spdlog::set_default_logger(spdlog::stderr_logger_st(config->name_of(config->self)));
  spdlog::flush_on(spdlog::level::info);
  auto secret = node::load_secret(config->secret_file);
  if (!secret) return give_up(secret.error().message);
  std::error_code error;
  std::filesystem::create_directories(config->runtime_dir, error);
  if (error)
    return give_up(fmt::format("node.runtime_dir {}: {}", config->runtime_dir, error.message()));

  platform::EventLoop loop;
  platform::FabricInterconnectOptions link_options;
  link_options.provider = config->provider;
  link_options.listen = {config->address, config->port};
  link_options.partner = {config->partner_address, config->partner_port};
  auto first_nonce = random_nonce();
  link_options.self = node::interconnect_self(*config, first_nonce, *secret);
  auto link = platform::FabricInterconnect::open(loop, std::move(link_options));
  if (!link) return give_up("interconnect: " + link.error().message);
  crash_at_once();

  auto engine = platform::EngineChild::create(loop, {engine_program(), "--config", config_path});
  if (!engine) return give_up(engine.error().message);

  std::unique_ptr<platform::NetlinkAddresses> addresses;
  if (config->services[1].managed() || config->services[2].managed()) {
    auto opened = platform::NetlinkAddresses::open(loop);
    if (!opened) return give_up(opened.error().message);
    addresses = std::move(*opened);
  }

  node::Supervisor::Ports ports{loop,        **link,       **engine,      {},
                                first_nonce, random_nonce, wall_clock_ns, log_event};
  bool memory_locked = false;
  ports.memory = [&memory_locked] { return memory_facts(memory_locked); };
  ports.addresses = addresses.get();
  std::array<Shelf, 3> disks;
  for (std::uint8_t n : {1, 2}) {
    disks[n] = open_shelf(loop, *config, NodeId(n), disk::KeyRole::supervisor, disk_limit);
    for (auto& disk : disks[n]) ports.disks[n].push_back(disk.get());
  }

  node::Supervisor supervisor(*config, std::move(ports));
  node::ControlService control(supervisor, ::getpid());
  auto server = platform::UnixServer::listen(loop, config->control_socket(), [&](auto channel) {
    control.add_client(std::move(channel));
  });
  if (!server) return give_up(server.error().message);

  supervisor.on_halted([&] { loop.stop(); });
  loop.on_signals({SIGTERM, SIGINT}, [&](int) {
    supervisor.operate({.verb = ha::OperatorVerb::halt, .node = config->self},
                       [](const ha::OperatorAnswer& answer) {
                         if (answer.outcome != ha::OperatorAnswer::Outcome::refused) return;
                         spdlog::error("told to end, but: {}; 'duet node halt --force' does it",
                                       fmt::join(answer.reasons, "; "));
                       });
  });
  memory_locked = protect_from_load();
  for (auto& shelf : disks) {
    for (auto& disk : shelf) {
      if (auto started = disk->start(); !started) return give_up(started.error().message);
    }
  }
  supervisor.start();
  if (auto started = (*link)->start(); !started)
    return give_up("interconnect: " + started.error().message);
  loop.run();
  return 0;
}

}  // namespace
}  // namespace duet

int main(int argc, char** argv) {
  CLI::App app{"Supervisor of a Duet node: docs/configuration.md."};
  std::string config = "/etc/duet/node.toml";
  app.add_option("--config", config, "configuration of this node")->envname("DUET_CONFIG");
  CLI11_PARSE(app, argc, argv);
  std::signal(SIGPIPE, SIG_IGN);
  return duet::run(config);
}
