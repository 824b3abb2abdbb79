#include "storage.h"

#include <chrono>
#include <cstdio>
#include <functional>
#include <thread>

#include "client.h"
#include "render.h"

namespace duet::cli {
namespace {

using admin::PoolVerb;

// An order waits for a consistency point; the daemon's own limit is shorter.
constexpr Duration pool_answer_limit = seconds(15);
constexpr Duration check_look = milliseconds(200);

Result<admin::PoolReply> ask(Client& client, const admin::PoolOrder& order) {
  client.send(order);
  auto reply = client.receive(pool_answer_limit);
  if (!reply) return std::unexpected(reply.error());
  auto* expected = std::get_if<admin::PoolReply>(&*reply);
  if (expected == nullptr) return fail(ErrorCode::io_error, "unexpected answer from duetd");
  return std::move(*expected);
}

// `use` gets the answer to the order, if it was carried out.
int ask(const Target& target, const Result<admin::PoolOrder>& order,
        const std::function<int(const admin::PoolReply&)>& use) {
  if (!order) return complain(usage, order.error().message);
  auto client = Client::connect(target);
  if (!client) return failure(client.error());
  auto reply = ask(**client, *order);
  if (!reply) return failure(reply.error());
  if (!reply->ok) return complain(failed, reply->why);
  return use(*reply);
}

Result<admin::PoolOrder> order_of(const Target& target, const Arguments& a, PoolVerb verb) {
  admin::PoolOrder order;
  order.verb = verb;
  if (!a.identity.empty()) {
    auto node = target.find_node(a.identity);
    if (!node) return std::unexpected(node.error());
    order.identity = *node;
  }
  order.data = a.data;
  return order;
}

void print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
}

// The positionals of a verb: a volume in front may be left out.
void take_names(const Arguments& a, admin::PoolOrder& order) {
  auto names = a.names;
  const auto last = [&names] {
    std::string name;
    if (!names.empty()) {
      name = names.back();
      names.pop_back();
    }
    return name;
  };
  const auto verb = order.verb;
  if (verb == PoolVerb::pool_grow) {
    order.disks = std::move(names);
    return;
  }
  if (verb == PoolVerb::disk_replace && names.size() > 1) order.spare = last();
  if (verb == PoolVerb::disk_fail || verb == PoolVerb::disk_replace ||
      verb == PoolVerb::disk_spare || verb == PoolVerb::disk_coredump) {
    order.disk = last();
    return;
  }
  if (verb == PoolVerb::volume_create || verb == PoolVerb::snapshot_create ||
      verb == PoolVerb::snapshot_clone || verb == PoolVerb::lun_clone) {
    order.name = last();
  }
  if (verb == PoolVerb::snapshot_delete || verb == PoolVerb::snapshot_clone ||
      verb == PoolVerb::snapshot_restore || verb == PoolVerb::lun_clone) {
    order.snapshot = last();
  }
  (verb == PoolVerb::lun_clone ? order.lun : order.volume) = last();
}

Result<std::uint64_t> limit_of(const std::string& text) {
  if (text.empty() || text == "none") return std::uint64_t{0};
  return node::parse_size(text);
}

}  // namespace

int pool_status(const Target& target, const Arguments& a) {
  return ask(target, order_of(target, a, PoolVerb::status), [&](const auto& reply) -> int {
    if (reply.report.empty()) return complain(failed, "unexpected answer from duetd");
    print(a.json ? pool_json(reply.report[0]) : pool_text(reply.report[0]));
    return done;
  });
}

int show_volumes(const Target& target, const Arguments& a) {
  return ask(target, order_of(target, a, PoolVerb::volume_list), [&](const auto& reply) {
    print(a.json ? volumes_json(reply) : volumes_text(reply));
    return done;
  });
}

int show_snapshots(const Target& target, const Arguments& a) {
  auto order = order_of(target, a, PoolVerb::snapshot_list);
  if (order) take_names(a, *order);
  return ask(target, order, [&](const auto& reply) {
    print(a.json ? volumes_json(reply) : snapshots_text(reply));
    return done;
  });
}

int pool_change(const Target& target, const Arguments& a, PoolVerb verb) {
  auto order = order_of(target, a, verb);
  if (!order) return complain(usage, order.error().message);
  take_names(a, *order);
  auto quota = limit_of(a.quota), reservation = limit_of(a.reservation);
  if (!quota) return complain(usage, quota.error().message);
  if (!reservation) return complain(usage, reservation.error().message);
  order->quota = *quota;
  order->reservation = *reservation;
  order->force = a.force;
  if (order->verb == PoolVerb::snapshot_restore) {
    order->lun = a.lun;
    order->file = a.file;
  }
  order->label = a.label;
  order->group = a.group;
  order->protection = a.protection;
  return ask(target, order, [](const auto&) { return done; });
}

// Starts it and waits for its end; without us it goes on.
int pool_check(const Target& target, const Arguments& a) {
  auto order = order_of(target, a, PoolVerb::check);
  if (!order) return complain(usage, order.error().message);
  auto client = Client::connect(target);
  if (!client) return failure(client.error());
  auto reply = ask(**client, *order);
  if (!reply) return failure(reply.error());
  if (!reply->ok) return complain(failed, reply->why);
  order->verb = PoolVerb::status;
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(a.wait_s);
  for (;;) {
    reply = ask(**client, *order);
    if (!reply) return failure(reply.error());
    if (!reply->ok || reply->report.empty()) return complain(failed, reply->why);
    const auto& check = reply->report[0].check;
    if (!check.running && !check.last.empty()) {
      std::string text = check.last + "\n";
      for (const auto& problem : reply->report[0].problems) text += "  " + problem + "\n";
      print(text);
      return reply->report[0].problems.empty() && !check.last.starts_with("could") ? done : failed;
    }
    if (std::chrono::steady_clock::now() >= end) {
      return complain(wait_over, "the check goes on: see 'duet pool status'");
    }
    std::this_thread::sleep_for(check_look);
  }
}

}  // namespace duet::cli
