// Management of a node from a third machine: TLS on one side, the control socket of duetd on the
// other. A process of its own, so that nothing it meets can harm the supervisor.
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <csignal>

#include "node/config.h"
#include "node/credentials.h"
#include "platform/event_loop.h"
#include "platform/tls_relay.h"

namespace duet {
namespace {

int give_up(const std::string& why) {
  spdlog::error("{}", why);
  return 1;
}

int run(const std::string& config_path) {
  auto config = node::load_config(config_path);
  if (!config) return give_up(config.error().message);
  spdlog::set_default_logger(spdlog::stderr_logger_st(config->name_of(config->self) + " apid"));
  spdlog::flush_on(spdlog::level::info);
  if (config->management_address.empty()) {
    return give_up(config_path + ": without [management] there is nothing to do");
  }
  auto secret = node::load_secret(config->management_secret_file);
  if (!secret) return give_up(secret.error().message);
  auto context = platform::TlsContext::create(*secret, platform::TlsContext::Side::server);
  if (!context) return give_up(context.error().message);
  platform::EventLoop loop;
  auto relay = platform::TlsRelay::open(loop, **context, config->management_address,
                                        config->management_port, config->control_socket());
  if (!relay) return give_up(relay.error().message);
  (*relay)->on_note = [](const std::string& text) { spdlog::info("{}", text); };
  loop.on_signals({SIGTERM, SIGINT}, [&](int) { loop.stop(); });
  spdlog::info("management at {} port {}", config->management_address, (*relay)->port());
  loop.run();
  return 0;
}

}  // namespace
}  // namespace duet

int main(int argc, char** argv) {
  CLI::App app{"Management of a Duet node from a third machine: docs/configuration.md."};
  std::string config = "/etc/duet/node.toml";
  app.add_option("--config", config, "configuration of this node")->envname("DUET_CONFIG");
  CLI11_PARSE(app, argc, argv);
  std::signal(SIGPIPE, SIG_IGN);
  return duet::run(config);
}
