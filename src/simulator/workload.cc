#include "simulator/workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "simulator/sim_node.h"

namespace duet::simulator {
namespace {

constexpr Duration creation_retry = milliseconds(500);

}  // namespace

Workload::Workload(World& world, WorkloadOptions options)
    : world_(world), options_(options), random_(world.random().next()) {
  for (std::uint8_t n : {1, 2}) {
    sides_[n].history =
        std::make_unique<History>([this, n](const std::string& invariant, std::string what) {
          violate(NodeId(n), invariant, std::move(what));
        });
  }
}

Workload::~Workload() {
  *alive_ = false;
}

void Workload::violate(NodeId identity, std::string_view invariant, std::string what) {
  if (world_.excused(identity, invariant)) return;
  // What is missing at the end was acknowledged once, and nobody wrote over it.
  if (sweeping_ && invariant == "I13") invariant = "I1";
  world_.violate(invariant, std::move(what));
}

// ---- LUNs ----

void Workload::prepare() {
  for (std::uint8_t n : {1, 2}) create_next(NodeId(n));
}

bool Workload::prepared() const {
  return std::ranges::all_of(std::array{1, 2}, [this](int n) {
    return sides_[static_cast<std::size_t>(n)].luns.size() == options_.luns;
  });
}

void Workload::create_next(NodeId identity) {
  Side& side = sides_[identity.value()];
  if (side.luns.size() == options_.luns) return;
  const auto later = [this, identity] {
    world_.outside().at(world_.now() + creation_retry, [this, identity, alive = alive_] {
      if (*alive) create_next(identity);
    });
  };
  SimNode* serving = nullptr;
  for (std::uint8_t n : {1, 2}) {
    if (world_.node(NodeId(n)).served(identity).serving) serving = &world_.node(NodeId(n));
  }
  if (serving == nullptr) return later();
  const std::string name = fmt::format("lun{}", side.luns.size());
  serving->create_lun(identity, name, options_.lun_size,
                      [this, identity, later, name, alive = alive_](const node::LunAnswer& answer) {
                        if (!*alive) return;
                        Side& side = sides_[identity.value()];
                        auto made = std::ranges::find_if(answer.luns, [&](const auto& lun) {
                          return lun.identity == identity && lun.name == name;
                        });
                        if (!answer.ok || made == answer.luns.end()) return later();
                        auto lun = std::make_unique<SharedLun>();
                        lun->identity = identity;
                        lun->number = made->number.value();
                        lun->blocks = made->size / block_size;
                        if (options_.reservations && side.luns.size() + 1 == options_.luns) {
                          lun->reservations = std::make_unique<ReservationModel>(
                              fmt::format("identity {} LUN {}", identity.value(), lun->number),
                              [this, identity](const std::string& invariant, std::string what) {
                                violate(identity, invariant, std::move(what));
                              });
                        }
                        side.luns.push_back(std::move(lun));
                        create_next(identity);
                      });
}

// ---- clients ----

void Workload::start() {
  ASSERT(prepared());
  std::uint16_t number = 0;
  for (std::uint8_t n : {1, 2}) {
    const NodeId identity(n);
    const auto& service = world_.config(identity).services[n];
    for (unsigned i = 0; i < options_.clients; ++i) {
      Client::Options options;
      options.number = ++number;
      options.seed = random_.next();
      options.identity = identity;
      options.depth = 1 + static_cast<unsigned>(random_.below(options_.depth_max));
      options.pause = options_.pause;
      options.immediate_data = random_.chance(2, 3);
      options.leaves_in_order = random_.chance(1, 2);
      options.patience = milliseconds(1000 + random_.below(5000));
      // Its creation was a record of a log that the operator gave up.
      options.lun_may_be_gone = [this, identity] {
        if (!world_.forgiven(identity)) return false;
        world_.excuse(identity) = "a LUN was lost with the log that the operator gave up";
        return true;
      };
      options.target = {service.address, service.port, service.iqn};
      auto& side = sides_[n];
      side.clients.push_back(std::make_unique<Client>(
          world_.outside(), world_.clients(), *side.history, side.luns, std::move(options),
          [this, identity](const std::string& invariant, std::string what) {
            violate(identity, invariant, std::move(what));
          }));
      side.clients.back()->on_acknowledged = [this](const BlockRange& range, Stamp stamp) {
        if (on_acknowledged) on_acknowledged(range, stamp);
      };
      side.clients.back()->start();
    }
  }
}

void Workload::stop() {
  for (auto& side : sides_) {
    for (auto& client : side.clients) client->stop();
  }
}

void Workload::sweep() {
  sweeping_ = true;
  for (auto& side : sides_) {
    // Without the reservations of others in its way: whoever may not read finds out, and tells
    // nothing about the content.
    for (auto& client : side.clients) client->sweep();
  }
}

bool Workload::quiet() const {
  return std::ranges::all_of(clients(), [](const Client* client) { return client->quiet(); });
}

void Workload::judge() {
  for (std::uint8_t n : {1, 2}) {
    sides_[n].history->finish();
  }
}

std::string Workload::unserved_since(Instant since) const {
  for (const Client* client : clients()) {
    if (client->last_good() < since) {
      return fmt::format(
          "client {} of identity {} has had no answer since {:.3f} s; session {}{}",
          client->options().number, client->options().identity.value(),
          std::chrono::duration<double>(client->last_good().time_since_epoch()).count(),
          client->ready() ? "up" : "down", client->quiet() ? "" : "; " + client->waits_for());
    }
  }
  return {};
}

std::vector<const Client*> Workload::clients() const {
  std::vector<const Client*> all;
  for (const auto& side : sides_) {
    for (const auto& client : side.clients) all.push_back(client.get());
  }
  return all;
}

Client::Counters Workload::totals() const {
  Client::Counters sum;
  for (const Client* client : clients()) {
    const Client::Counters& c = client->counters();
    sum.good += c.good;
    sum.sessions += c.sessions;
    sum.retries += c.retries;
    sum.busy += c.busy;
    sum.not_ready += c.not_ready;
    sum.errors += c.errors;
    sum.attentions += c.attentions;
    sum.conflicts += c.conflicts;
    sum.mismatches += c.mismatches;
    sum.logouts_asked += c.logouts_asked;
  }
  return sum;
}

std::uint64_t Workload::operations() const {
  return sides_[1].history->operations() + sides_[2].history->operations();
}

std::uint64_t Workload::undecided_blocks() const {
  return sides_[1].history->undecided_blocks() + sides_[2].history->undecided_blocks();
}

}  // namespace duet::simulator
