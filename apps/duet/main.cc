// The `duet` command: docs/cli.md.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <functional>

#include "client.h"
#include "initialize.h"
#include "node/config.h"
#include "render.h"

namespace duet::cli {
namespace {

enum Exit : int { done = 0, failed = 1, usage = 2, refused = 3, wait_over = 4, unreachable = 6 };

struct Arguments {
  std::string config = "/etc/duet/node.toml";
  bool json = false;
  bool follow = false;
  bool force = false;
  std::string node;      // takeover, giveback, halt
  std::string identity;  // lun
  std::string name;
  std::string size;
  double timeout_s = 60;
};

int complain(int code, const std::string& what) {
  std::fprintf(stderr, "duet: %s\n", what.c_str());
  return code;
}

int failure(const Error& error) {
  switch (error.code) {
    case ErrorCode::disconnected:
      return complain(unreachable, error.message);
    case ErrorCode::timed_out:
      return complain(unreachable, "duetd does not answer");
    case ErrorCode::invalid:
    case ErrorCode::not_found:
      return complain(usage, error.message);
    case ErrorCode::refused:
      return complain(refused, error.message);
    default:
      return complain(failed, error.message);
  }
}

void print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
}

// Sends one request and hands its one reply to `use`.
template <class T>
int ask(const node::Config& config, const admin::Request& request,
        std::function<int(const T&)> use) {
  auto client = Client::connect(config.control_socket());
  if (!client) return failure(client.error());
  (*client)->send(request);
  auto reply = (*client)->receive(Client::answer_limit);
  if (!reply) return failure(reply.error());
  const auto* expected = std::get_if<T>(&*reply);
  return expected ? use(*expected) : complain(failed, "unexpected answer from duetd");
}

int status(const node::Config& config, const Arguments& a) {
  return ask<admin::StatusReport>(config, admin::StatusQuery{}, [&](const auto& report) {
    print(a.json ? status_json(report) : status_text(report));
    return done;
  });
}

int events(const node::Config& config, const Arguments& a) {
  auto client = Client::connect(config.control_socket());
  if (!client) return failure(client.error());
  (*client)->send(admin::EventsQuery{a.follow});
  for (;;) {
    auto reply =
        (*client)->receive(a.follow ? Duration(std::chrono::hours(24)) : Client::answer_limit);
    if (!reply && a.follow && reply.error().code == ErrorCode::timed_out) continue;
    if (!reply) return failure(reply.error());
    const auto* event = std::get_if<admin::EventItem>(&*reply);
    if (!event) return done;
    print(a.json ? event_json(*event) : event_text(*event));
    if (std::fflush(stdout) != 0) return done;  // whoever read us is gone
  }
}

int operate(const node::Config& config, const Arguments& a, admin::Verb verb) {
  auto node = config.find_node(a.node);
  if (!node) return complain(usage, node.error().message);
  auto client = Client::connect(config.control_socket());
  if (!client) return failure(client.error());
  (*client)->send(admin::Operate{verb, *node, a.force});
  Duration wait = Client::answer_limit;
  for (;;) {
    auto reply = (*client)->receive(wait);
    if (!reply) {
      if (verb == admin::Verb::halt && reply.error().code == ErrorCode::disconnected) return done;
      bool accepted = wait != Client::answer_limit;
      if (accepted && reply.error().code == ErrorCode::timed_out) {
        return complain(wait_over, "not finished yet; the job goes on: see `duet status`");
      }
      return failure(reply.error());
    }
    const auto* outcome = std::get_if<admin::OperateReply>(&*reply);
    if (!outcome) return complain(failed, "unexpected answer from duetd");
    if (outcome->outcome == admin::OperateOutcome::accepted) {
      wait = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(a.timeout_s));
      continue;
    }
    for (const auto& reason : outcome->reasons) complain(0, reason);
    switch (outcome->outcome) {
      case admin::OperateOutcome::refused:
        return refused;
      case admin::OperateOutcome::failed:
        return failed;
      case admin::OperateOutcome::accepted:
      case admin::OperateOutcome::done:
        return done;
    }
  }
}

int luns(const node::Config& config, const Arguments& a, const admin::Request& request, bool show) {
  return ask<admin::LunReply>(config, request, [&](const admin::LunReply& reply) -> int {
    if (!reply.ok) return complain(failed, reply.why);
    if (show) print(a.json ? luns_json(reply) : luns_text(reply));
    return done;
  });
}

Result<NodeId> identity_of(const node::Config& config, const Arguments& a) {
  return a.identity.empty() ? config.self : config.find_node(a.identity);
}

int lun_create(const node::Config& config, const Arguments& a) {
  auto identity = identity_of(config, a);
  if (!identity) return complain(usage, identity.error().message);
  auto size = node::parse_size(a.size);
  if (!size) return complain(usage, size.error().message);
  return luns(config, a, admin::LunCreate{*identity, a.name, *size}, true);
}

int lun_delete(const node::Config& config, const Arguments& a) {
  auto identity = identity_of(config, a);
  if (!identity) return complain(usage, identity.error().message);
  return luns(config, a, admin::LunDelete{*identity, a.name}, false);
}

int disks(const node::Config& config, const Arguments& a) {
  return ask<admin::DiskReport>(config, admin::DiskList{}, [&](const auto& report) {
    print(a.json ? disks_json(report) : disks_text(report));
    return done;
  });
}

int init(const node::Config& config, const Arguments& a) {
  auto result = initialize(config, a.force);
  if (!result) return failure(result.error());
  print(*result);
  return done;
}

int run(int argc, char** argv) {
  Arguments a;
  std::function<int(const node::Config&)> command;
  CLI::App app{
      "Operates a node of a Duet pair. Exit codes: 0 done, 1 failed, 2 usage, 3 refused, "
      "4 wait over, 6 daemon unreachable."};
  app.require_subcommand(1);
  app.add_option("--config", a.config, "configuration of this node")->envname("DUET_CONFIG");

  auto add = [&](CLI::App* parent, const char* name, const char* help, auto action) {
    auto* sub = parent->add_subcommand(name, help);
    sub->callback([&command, &a, action] {
      command = [&a, action](const node::Config& c) { return action(c, a); };
    });
    return sub;
  };
  auto json = [&](CLI::App* sub) { sub->add_flag("--json", a.json, "for programs"); };

  json(add(&app, "status", "state, why, and what comes next", status));
  auto* ev = add(&app, "events", "what happened", events);
  json(ev);
  ev->add_flag("-f,--follow", a.follow, "go on with new events");

  auto verb = [&](const char* name, const char* help, admin::Verb v) {
    auto* sub = add(&app, name, help, [v](const node::Config& c, const Arguments& arguments) {
      return operate(c, arguments, v);
    });
    sub->add_option("NODE", a.node, "name or number of the node")->required();
    sub->add_flag("--force", a.force, "override the vetoes that may be overridden");
    sub->add_option("--timeout", a.timeout_s, "seconds to wait for the end")
        ->check(CLI::Range(0.0, 86400.0));
  };
  verb("takeover", "this node takes over its partner NODE", admin::Verb::takeover);
  verb("giveback", "this node gives everything back to NODE", admin::Verb::giveback);
  verb("halt", "ends this node; the partner takes over", admin::Verb::halt);

  auto* lun = app.add_subcommand("lun", "LUNs of the identities served here");
  lun->require_subcommand(1);
  auto* create = add(lun, "create", "a new LUN", lun_create);
  create->add_option("NAME", a.name)->required();
  create->add_option("SIZE", a.size, "for example 10GiB")->required();
  create->add_option("--identity", a.identity, "node whose LUN it is; default: this one");
  json(create);
  json(add(lun, "list", "all LUNs", [](const node::Config& c, const Arguments& arguments) {
    return luns(c, arguments, admin::LunList{}, true);
  }));
  auto* remove = add(lun, "delete", "deletes a LUN and its data", lun_delete);
  remove->add_option("NAME", a.name)->required();
  remove->add_option("--identity", a.identity, "node whose LUN it is; default: this one");

  auto* disk = app.add_subcommand("disk", "disks of both shelves");
  disk->require_subcommand(1);
  json(add(disk, "list", "label, role, path, reservation", disks));

  add(&app, "init", "labels and formats this node's own shelf", init)
      ->add_flag("--force", a.force, "also if the disks have Duet labels: their data is lost");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    int code = app.exit(e);
    return code == 0 ? done : usage;
  }
  auto config = node::load_config(a.config);
  if (!config) return complain(usage, config.error().message);
  return command(*config);
}

}  // namespace
}  // namespace duet::cli

int main(int argc, char** argv) {
  return duet::cli::run(argc, argv);
}
