// duet-shelf: the embedded disk shelf. `duet-shelf ctl SOCKET COMMAND...` talks to a running one.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <thread>

#include "control_socket.h"
#include "platform/tcp_network.h"
#include "services/iscsi_server.h"
#include "shelf/control.h"
#include "shelf_backend.h"

namespace duet {
namespace {

constexpr int exit_failed = 1;
constexpr int exit_unreachable = 6;
constexpr unsigned worker_threads = 4;
constexpr Duration control_timeout = seconds(10);

struct Options {
  shelf::ShelfConfig shelf;
  std::vector<std::string> portals;
  std::string control;
};

// "address:port"; the address numeric, in brackets when it is IPv6.
Result<services::PortalConfig> parse_portal(const std::string& text, std::uint16_t number) {
  services::PortalConfig portal;
  const auto colon = text.rfind(':');
  if (colon == std::string::npos)
    return fail(ErrorCode::invalid, text + ": a portal is ADDRESS:PORT");
  portal.address = text.substr(0, colon);
  if (portal.address.size() > 2 && portal.address.front() == '[' && portal.address.back() == ']')
    portal.address = portal.address.substr(1, portal.address.size() - 2);
  const char* end = text.data() + text.size();
  auto [stop, error] = std::from_chars(text.data() + colon + 1, end, portal.port);
  if (error != std::errc{} || stop != end || colon + 1 == text.size())
    return fail(ErrorCode::invalid, text + ": a port is a number from 0 to 65535");
  portal.group_tag = number;
  portal.relative_target_port = number;
  return portal;
}

Status serve(const Options& options) {
  platform::EventLoop loop;
  shelf::Workers workers(worker_threads,
                         [&](ports::Task task) { loop.post_from_any_thread(std::move(task)); });
  auto opened = shelf::Shelf::open(options.shelf, loop, workers);
  if (!opened) return std::unexpected(opened.error());
  shelf::Shelf& disks = **opened;

  platform::TcpNetwork tcp(loop);
  shelf::CutNetwork network(tcp);
  services::IscsiServer server(loop, network);
  ShelfBackend backend(server, disks);
  const std::string& name = options.shelf.target_name;
  if (auto added = server.add_target({name, "duet shelf", &backend}); !added) return added;
  std::vector<std::string> listening;
  for (const auto& text : options.portals) {
    auto portal = parse_portal(text, static_cast<std::uint16_t>(listening.size() + 1));
    if (!portal) return std::unexpected(portal.error());
    auto id = server.add_portal(name, *portal);
    if (!id) return std::unexpected(id.error());
    listening.push_back(fmt::format("{}:{}", portal->address, server.port(*id)));
  }
  server.set_ready(name, true);

  shelf::Control control(disks, network);
  std::unique_ptr<ControlSocket> socket;
  if (!options.control.empty()) {
    auto made = ControlSocket::open(loop, options.control, [&](std::string_view line) {
      auto answer = control.execute(line);
      spdlog::info("control: {} -> {}", line, answer);
      return answer;
    });
    if (!made) return std::unexpected(made.error());
    socket = std::move(*made);
  }
  loop.on_signals({SIGINT, SIGTERM}, [&](int) { loop.stop(); });
  fmt::print("ready portals={}\n", fmt::join(listening, ","));
  std::fflush(stdout);
  loop.run();
  return {};
}

int tell(const std::string& socket, const std::vector<std::string>& words) {
  auto answer = ask_control(socket, fmt::format("{}", fmt::join(words, " ")), control_timeout);
  if (!answer) {
    fmt::print(stderr, "duet-shelf: {}\n", answer.error().message);
    return exit_unreachable;
  }
  fmt::print("{}\n", *answer);
  return answer->starts_with("ok") ? 0 : exit_failed;
}

int run(int argc, char** argv) {
  Options options;
  std::string directory, socket;
  std::vector<std::string> words;
  CLI::App app("duet-shelf, a disk shelf: file-backed disks over iSCSI");
  auto* ctl = app.add_subcommand("ctl", "tell a running shelf to drop power, fail a disk, ...");
  ctl->add_option("SOCKET", socket)->required();
  ctl->add_option("COMMAND", words, "see docs/protocols/shelf_control.md")->required();

  app.add_option("--dir", directory, "where the disks are; created if missing");
  app.add_option("--disks", options.shelf.disks, "number of disks, LUNs 0, 1, ...");
  app.add_option("--size", options.shelf.sizes,
                 "of disk 0, 1, ...; the last one goes for the rest: bytes, or with K, M, G, T")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--block-size", options.shelf.block_size, "512 or 4096");
  app.add_option("--portal", options.portals, "ADDRESS:PORT, one per path; port 0: any");
  app.add_option("--iqn", options.shelf.target_name, "iSCSI name of the shelf");
  app.add_option("--control", options.control, "socket of the test-only control channel");
  app.add_flag("--wce", options.shelf.write_cache, "disks start with their write cache on");
  app.add_flag("--sync", options.shelf.sync, "durable means fdatasync, not only the page cache");
  bool create = false;
  app.add_flag("--create", create, "start with empty disks: removes those in --dir");
  CLI11_PARSE(app, argc, argv);
  if (ctl->parsed()) return tell(socket, words);

  if (directory.empty() || options.portals.empty() || options.shelf.target_name.empty()) {
    fmt::print(stderr, "duet-shelf: --dir, --iqn and at least one --portal are needed\n");
    return 2;
  }
  options.shelf.directory = directory;
  options.shelf.target_ports = static_cast<std::uint16_t>(options.portals.size());
  spdlog::set_default_logger(spdlog::stderr_logger_mt("shelf"));
  if (create) shelf::remove_disks(options.shelf.directory);
  if (auto served = serve(options); !served) {
    fmt::print(stderr, "duet-shelf: {}\n", served.error().message);
    return exit_failed;
  }
  return 0;
}

}  // namespace
}  // namespace duet

int main(int argc, char** argv) {
  return duet::run(argc, argv);
}
