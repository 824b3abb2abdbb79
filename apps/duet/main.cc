// The `duet` command: docs/cli.md.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>

#include "arguments.h"
#include "client.h"
#include "cores.h"
#include "initialize.h"
#include "node/config.h"
#include "operate.h"
#include "render.h"
#include "storage.h"
#include "target.h"

namespace duet::cli {

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
    case ErrorCode::unsupported_version:
      return complain(usage, error.message);
    case ErrorCode::refused:
      return complain(refused, error.message);
    default:
      return complain(failed, error.message);
  }
}

namespace {

void print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
}

// Sends one request and hands its one reply to `use`.
template <class T>
int ask(const Target& target, const admin::Request& request, std::function<int(const T&)> use) {
  auto client = Client::connect(target);
  if (!client) return failure(client.error());
  (*client)->send(request);
  auto reply = (*client)->receive(Client::answer_limit);
  if (!reply) return failure(reply.error());
  const auto* expected = std::get_if<T>(&*reply);
  return expected ? use(*expected) : complain(failed, "unexpected answer from duetd");
}

int status(const Target& target, const Arguments& a) {
  return ask<admin::StatusReport>(target, admin::StatusQuery{}, [&](const auto& report) {
    print(a.json ? status_json(report) : status_text(report));
    return done;
  });
}

int events(const Target& target, const Arguments& a) {
  auto client = Client::connect(target);
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

int health(const Target& target, const Arguments& a) {
  return ask<admin::HealthReport>(target, admin::HealthQuery{}, [&](const auto& report) {
    print(a.json ? health_json(report) : health_text(report));
    return done;
  });
}

// 0 only if every takeover that was asked for is possible.
int check(const Target& target, const Arguments& a) {
  auto node = no_node;
  if (!a.node.empty()) {
    auto found = target.find_node(a.node);
    if (!found) return complain(usage, found.error().message);
    node = *found;
  }
  return ask<admin::CheckReport>(target, admin::CheckQuery{}, [&](admin::CheckReport report) {
    auto other = [&](const admin::MoveCheck& c) { return node != no_node && c.node != node; };
    std::erase_if(report.takeovers, other);
    std::erase_if(report.givebacks, other);
    print(a.json ? check_json(report)
                 : check_text(report, [&](NodeId n) { return target.name_of(n); }));
    bool all =
        std::ranges::all_of(report.takeovers, [](const auto& c) { return c.possible.possible; });
    return all ? done : failed;
  });
}

int luns(const Target& target, const Arguments& a, const admin::Request& request, bool show) {
  return ask<admin::LunReply>(target, request, [&](const admin::LunReply& reply) -> int {
    if (!reply.ok) return complain(failed, reply.why);
    if (show) print(a.json ? luns_json(reply) : luns_text(reply));
    return done;
  });
}

Result<NodeId> identity_of(const Target& target, const Arguments& a) {
  // No node: the asked node's own.
  return a.identity.empty() ? no_node : target.find_node(a.identity);
}

int lun_create(const Target& target, const Arguments& a) {
  auto identity = identity_of(target, a);
  if (!identity) return complain(usage, identity.error().message);
  auto size = node::parse_size(a.size);
  if (!size) return complain(usage, size.error().message);
  return luns(target, a, admin::LunCreate{*identity, a.name, *size, a.reserve}, true);
}

int lun_delete(const Target& target, const Arguments& a) {
  auto identity = identity_of(target, a);
  if (!identity) return complain(usage, identity.error().message);
  return luns(target, a, admin::LunDelete{*identity, a.name}, false);
}

int disks(const Target& target, const Arguments& a) {
  return ask<admin::DiskReport>(target, admin::DiskList{}, [&](const auto& report) {
    print(a.json ? disks_json(report) : disks_text(report));
    return done;
  });
}

int init(const Target& target, const Arguments& a) {
  if (!target.config) return complain(usage, "init is for the node itself, not for a console");
  auto result = initialize(*target.config, a.initialize);
  if (!result) return failure(result.error());
  print(*result);
  return done;
}

// pool, volume, snapshot, and what they add to lun and disk.
template <class Add, class Json>
void add_storage(CLI::App& app, CLI::App* lun, CLI::App* disk, Arguments& a, Add add, Json json) {
  const auto whose = [&a](CLI::App* sub) {
    sub->add_option("--identity", a.identity, "node whose pool it is; default: this one");
    return sub;
  };
  const auto change = [&](CLI::App* parent, const char* name, const char* help,
                          admin::PoolVerb verb, const char* names, int least, int most) {
    auto* sub = whose(add(parent, name, help, [verb](const Target& t, const Arguments& arguments) {
      return pool_change(t, arguments, verb);
    }));
    if (most > 0) sub->add_option(names, a.names)->expected(least, most)->required();
    return sub;
  };
  using enum admin::PoolVerb;
  auto* pool = app.add_subcommand("pool", "the pool of an identity");
  pool->require_subcommand(1);
  json(whose(add(pool, "status", "capacity, disks, rebuild, health", pool_status)));
  auto* pool_checks =
      whose(add(pool, "check", "is everything in the pool once, and nothing else?", pool_check));
  pool_checks->add_flag("--data", a.data, "reads the data of all files, too");
  pool_checks->add_option("--wait", a.wait_s, "seconds to wait for the end; the check goes on")
      ->check(CLI::Range(0.0, 86400.0));
  change(pool, "scrub", "compares parity with data, in the background", scrub, "", 0, 0);

  auto* grow = change(pool, "grow", "spares become members of a group, or a new group", pool_grow,
                      "DISK...", 1, 32);
  grow->add_option("--group", a.group, "that they join, in the background; default: 0");
  grow->add_option("--raid", a.protection, "they become a new group")
      ->check(CLI::IsMember({"none", "raid4", "dual"}));

  auto* volume = app.add_subcommand("volume", "volumes of a pool");
  volume->require_subcommand(1);
  json(whose(add(volume, "list", "all volumes", show_volumes)));
  change(volume, "create", "a new volume", volume_create, "NAME", 1, 1);
  change(volume, "delete", "deletes a volume and its data", volume_delete, "NAME", 1, 1);
  auto* limits =
      change(volume, "limit", "sets both; none if not given", volume_limit, "NAME", 1, 1);
  limits->add_option("--quota", a.quota, "SIZE that it may use at most");
  limits->add_option("--reserve", a.reservation, "SIZE that is kept for it");

  auto* snapshot = app.add_subcommand("snapshot", "snapshots of volumes; VOLUME: by default vol0");
  snapshot->require_subcommand(1);
  auto* snapshots = whose(add(snapshot, "list", "all, or those of VOLUME", show_snapshots));
  snapshots->add_option("VOLUME", a.names)->expected(0, 1);
  json(snapshots);
  change(snapshot, "create", "the volume as it is now", snapshot_create, "[VOLUME] NAME", 1, 2);
  change(snapshot, "delete", "gives its space back in the background", snapshot_delete,
         "[VOLUME] NAME", 1, 2);
  change(snapshot, "clone", "a volume NEWNAME that begins as the snapshot", snapshot_clone,
         "[VOLUME] NAME NEWNAME", 2, 3);
  auto* back =
      change(snapshot, "restore", "the volume and its LUNs become what its newest snapshot shows",
             snapshot_restore, "[VOLUME] NAME", 1, 2);
  back->add_flag("--force", a.force, "also while a client may use the LUNs: takes them from it");
  auto* one = back->add_option("--lun", a.lun, "only this LUN, and from any snapshot");
  back->add_option("--file", a.file,
                   "only this file, by its PATH from the volume's root, and from any snapshot")
      ->excludes(one);
  change(lun, "clone", "a LUN that begins as LUN was in SNAPSHOT", lun_clone,
         "LUN SNAPSHOT NEWNAME", 3, 3);

  change(disk, "fail", "takes a disk out of the pool", disk_fail, "DISK", 1, 1);
  change(disk, "replace", "a failed member's place goes to SPARE, or to the disk that came back",
         disk_replace, "DISK [SPARE]", 1, 2);
  change(disk, "coredump",
         "labels a disk that bears no label: it takes dumps, and what it bears is lost",
         disk_coredump, "DISK", 1, 1);
  change(disk, "spare", "a labelled disk stands by", disk_spare, "DISK", 1, 1)
      ->add_flag("--label", a.label, "labels it if it bears no label; what else it bears is lost");
}

void panic_kind(CLI::App* sub, Arguments& a) {
  sub->add_option("--kind", a.kind, "null (default), assert, stack, abort or hang")
      ->check(CLI::IsMember({"null", "assert", "stack", "abort", "hang"}));
}

template <class Add, class Json>
void add_cores(CLI::App& app, Arguments& a, Add add, Json json) {
  auto* core = app.add_subcommand("core", "core files of a node that panicked, in its root volume");
  core->require_subcommand(1);
  const auto verb = [&](const char* name, const char* help, auto action, bool id) {
    auto* sub = add(core, name, help, action);
    if (id) sub->add_option("ID", a.name, "or the front of it")->required();
    sub->add_option("--identity", a.identity, "node whose cores they are; default: this one");
    return sub;
  };
  json(verb("list", "all of them, and what is being collected", core_list, false));
  json(verb("show", "why and where it panicked, and what there is of it", core_show, true));
  verb("save", "to FILE, which `gdb duet-engine FILE` opens", core_save, true)
      ->add_option("FILE", a.save_as)
      ->required();
  verb("delete", "deletes it", core_delete, true);
  auto* trigger = add(core, "trigger", "for tests: as `node panic`", panic);
  trigger->add_option("NODE", a.node, "the asked node")->required();
  panic_kind(trigger, a);
}

int run(int argc, char** argv) {
  Arguments a;
  TargetOptions where;
  where.config = "/etc/duet/node.toml";
  std::function<int(const Target&)> command;
  CLI::App app{
      "Operates a node of a Duet pair. Exit codes: 0 done, 1 failed, 2 usage, 3 refused, "
      "4 wait over, 6 daemon unreachable."};
  app.require_subcommand(1);
  app.add_option("--config", where.config, "configuration of this node")->envname("DUET_CONFIG");
  app.add_option("--console", where.console, "from a third machine: the console file")
      ->envname("DUET_CONSOLE");
  app.add_option("--node", where.node,
                 "from a third machine: HOST:PORT of a node's duet-apid, or a node of the console "
                 "file");
  app.add_option("--secret", where.secret, "with --node HOST:PORT: the management secret file");

  auto add = [&](CLI::App* parent, const char* name, const char* help, auto action) {
    auto* sub = parent->add_subcommand(name, help);
    sub->callback([&command, &a, action] {
      command = [&a, action](const Target& t) { return action(t, a); };
    });
    return sub;
  };
  auto json = [&](CLI::App* sub) { sub->add_flag("--json", a.json, "for programs"); };

  json(add(&app, "status", "state, why, and what comes next", status));
  json(add(&app, "health", "health of each module of both nodes, and what clears it", health));
  auto* ha = app.add_subcommand("ha", "high availability");
  ha->require_subcommand(1);
  auto* ha_check =
      add(ha, "check", "rehearses: can the nodes be taken over now, and if not why", check);
  ha_check->add_option("NODE", a.node, "only this node");
  json(ha_check);
  auto* ev = add(&app, "events", "what happened", events);
  json(ev);
  ev->add_flag("-f,--follow", a.follow, "go on with new events");

  auto verb = [&](const char* name, const char* help, auto action) {
    auto* sub = add(&app, name, help, action);
    sub->add_flag("--force", a.force, "override all vetoes that may be overridden");
    sub->add_option("--wait", a.wait_s, "seconds to wait for the end, at most; the job goes on")
        ->check(CLI::Range(0.0, 86400.0));
    return sub;
  };
  auto node_option = [&](CLI::App* sub) {
    return sub->add_option("NODE", a.node, "name or number of the node");
  };
  auto override_option = [&](CLI::App* sub) {
    sub->add_option("--override", a.overrides, "override the soft veto of this name");
  };
  auto* move = verb("takeover", "NODE's partner takes it over", takeover);
  node_option(move);
  override_option(move);
  move->add_option("--timeout", a.countdown_s, "seconds of the countdown, 30 by default")
      ->check(CLI::Range(1.0, 600.0));
  auto* self = move->add_flag("--self", a.self, "the asked node itself shall be taken over");
  move->add_flag("--cancel", a.cancel, "cancels instead: as 'duet cancel'")->excludes(self);
  node_option(verb("cancel", "cancels the takeover that is under way at the asked node", cancel));
  auto* back = verb("giveback", "the asked node gives everything back to NODE", giveback);
  node_option(back)->required();
  override_option(back);
  back->add_flag("--uncoordinated", a.uncoordinated, "give back to a node that has yet to boot");
  auto* stop = verb("halt", "ends NODE at once; its partner takes over", halt);
  node_option(stop)->required();
  stop->add_flag("--no-takeover", a.no_takeover, "maintenance: the partner shall not take over");

  auto* node = app.add_subcommand("node", "the asked node");
  node->require_subcommand(1);
  panic_kind(add(node, "panic", "for tests: its engine crashes", panic), a);

  auto* lun = app.add_subcommand("lun", "LUNs of the identities served here");
  lun->require_subcommand(1);
  auto* create = add(lun, "create", "a new LUN", lun_create);
  create->add_option("NAME", a.name)->required();
  create->add_option("SIZE", a.size, "for example 10GiB")->required();
  create->add_option("--identity", a.identity, "node whose LUN it is; default: this one");
  create->add_flag("--reserve", a.reserve, "keeps space for all of it; default: thin");
  json(create);
  json(add(lun, "list", "all LUNs", [](const Target& t, const Arguments& arguments) {
    return luns(t, arguments, admin::LunList{}, true);
  }));
  auto* remove = add(lun, "delete", "deletes a LUN and its data", lun_delete);
  remove->add_option("NAME", a.name)->required();
  remove->add_option("--identity", a.identity, "node whose LUN it is; default: this one");

  auto* disk = app.add_subcommand("disk", "disks of both shelves");
  disk->require_subcommand(1);
  json(add(disk, "list", "label, role, path, reservation", disks));
  add_storage(app, lun, disk, a, add, json);
  add_cores(app, a, add, json);

  auto* first = add(&app, "init", "labels and formats this node's own shelf", init);
  first->add_flag("--force", a.initialize.force,
                  "also if the disks have Duet labels: their data is lost");
  const std::map<std::string, raid::Protection> protections{{"none", raid::Protection::none},
                                                            {"raid4", raid::Protection::single},
                                                            {"dual", raid::Protection::dual}};
  first
      ->add_option("--raid", a.initialize.protection,
                   "none, raid4 (default, bears one disk) or dual (bears two)")
      ->transform(CLI::CheckedTransformer(protections));
  first->add_option("--spares", a.initialize.spares, "so many disks, the last ones, stand by")
      ->check(CLI::Range(0, 32));

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    int code = app.exit(e);
    return code == 0 ? done : usage;
  }
  auto target = find_target(where);
  if (!target) return complain(usage, target.error().message);
  return command(*target);
}

}  // namespace
}  // namespace duet::cli

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  return duet::cli::run(argc, argv);
}
