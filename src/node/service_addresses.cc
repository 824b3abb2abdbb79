#include "node/service_addresses.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace duet::node {
namespace {

constexpr std::array identities{NodeId(1), NodeId(2)};

std::string text(const ports::ServiceAddress& a) {
  return fmt::format("{}/{} on {}", to_string(a.address), a.prefix, a.interface);
}

}  // namespace

ServiceAddresses::ServiceAddresses(const Config& config, ports::Scheduler& scheduler,
                                   ports::Addresses* addresses, Hooks hooks)
    : scheduler_(scheduler),
      addresses_(addresses),
      hooks_(std::move(hooks)),
      clients_(config.cluster, config.self) {
  for (auto identity : identities) {
    const auto& service = config.services[identity.value()];
    auto& e = entry(identity);
    e.managed = addresses_ != nullptr && service.managed();
    e.port = service.port;
    if (e.managed) e.address = service.managed_address();
  }
  if (addresses_ == nullptr) return;
  addresses_->on_link([this, alive = alive_] {
    if (*alive) on_link();
  });
  addresses_->on_duplicate(
      [this, alive = alive_](const ports::ServiceAddress& address, const std::string& hardware) {
        if (*alive) on_duplicate(address, hardware);
      });
}

ServiceAddresses::~ServiceAddresses() {
  *alive_ = false;
  for (auto& e : entries_) scheduler_.cancel(e.timer);
}

void ServiceAddresses::start() {
  for (auto identity : identities) {
    auto& e = entry(identity);
    if (!e.managed) continue;
    if (addresses_->look(e.address).present) {
      hooks_.note(ha::Severity::notice, "address.leftover",
                  text(e.address) + " was left by an earlier daemon: taken down");
    }
    drop(e, nullptr);
  }
}

void ServiceAddresses::serve(NodeId identity) {
  auto& e = entry(identity);
  if (!e.managed) return;
  e.served = true;
  e.renew_at = {};
  e.trouble.clear();
  advance(identity);
}

void ServiceAddresses::on_lease(NodeId identity, Instant until) {
  auto& e = entry(identity);
  if (!e.managed) return;
  e.lease_until = until;
  // While up, the timer that was set for the old end looks at the new one.
  if (e.state == State::away || !wanted(e)) advance(identity);
}

void ServiceAddresses::withdraw(NodeId identity) {
  auto& e = entry(identity);
  e.served = false;
  e.trouble.clear();
  if (e.state != State::away) drop(e, "withdrawn");
  scheduler_.cancel(e.timer);
}

void ServiceAddresses::withdraw_all() {
  for (auto identity : identities) withdraw(identity);
}

// ---- up and down ----

void ServiceAddresses::advance(NodeId identity) {
  auto& e = entry(identity);
  auto now = scheduler_.now();
  switch (e.state) {
    case State::away:
      if (wanted(e) && e.renew_at <= now) raise(identity);
      break;
    case State::rising:
      if (!wanted(e)) drop(e, "the lease is over");
      break;
    case State::up:
      if (!wanted(e)) {
        drop(e, "the lease is over");
        break;
      }
      if (e.renew_at <= now) renew(identity);
      if (next_announcement(e) <= now) announce(e);
      break;
  }
  arm(identity);
}

// The next moment at which time alone changes something.
void ServiceAddresses::arm(NodeId identity) {
  auto& e = entry(identity);
  scheduler_.cancel(e.timer);
  Instant next = e.lease_until;
  switch (e.state) {
    case State::away:
      if (!wanted(e)) return;
      next = e.renew_at;
      break;
    case State::rising:
      break;
    case State::up:
      next = std::min({next, e.renew_at, next_announcement(e)});
      break;
  }
  e.timer = scheduler_.at(next, [this, identity] { advance(identity); });
}

void ServiceAddresses::raise(NodeId identity) {
  auto& e = entry(identity);
  e.state = State::rising;
  ++e.life;
  addresses_->bring_up(e.address, lifetime,
                       [this, alive = alive_, identity, life = e.life](Result<void> r) {
                         if (*alive && life == entry(identity).life) raised(identity, std::move(r));
                       });
}

void ServiceAddresses::raised(NodeId identity, Result<void> r) {
  auto& e = entry(identity);
  auto now = scheduler_.now();
  e.renew_at = now + renew_interval;
  if (!r) {
    failed(e, r.error().message);
    e.state = State::away;
    ++e.life;
    return arm(identity);
  }
  e.state = State::up;
  e.renewing = false;
  e.trouble.clear();
  e.contested = false;
  e.link = addresses_->look(e.address).link;
  e.tickles = clients_.of_partner(identity);
  begin_announcing(e);
  hooks_.note(ha::Severity::notice, "address.up",
              fmt::format("{}{}{}", text(e.address), e.link ? "" : ", but its link is down",
                          e.tickles.empty() ? ""
                                            : fmt::format(", {} client(s) of the partner are told",
                                                          e.tickles.size())));
  advance(identity);
}

void ServiceAddresses::renew(NodeId identity) {
  auto& e = entry(identity);
  e.renew_at = scheduler_.now() + renew_interval;
  if (std::exchange(e.renewing, true)) return;
  addresses_->bring_up(e.address, lifetime,
                       [this, alive = alive_, identity, life = e.life](Result<void> r) {
                         if (!*alive || life != entry(identity).life) return;
                         auto& renewed = entry(identity);
                         renewed.renewing = false;
                         if (r) return;
                         failed(renewed, r.error().message);
                         drop(renewed, nullptr);
                         arm(identity);
                       });
}

void ServiceAddresses::drop(Entry& e, const char* why) {
  bool was_up = std::exchange(e.state, State::away) == State::up;
  ++e.life;
  e.tickles.clear();
  addresses_->take_down(e.address, [this, alive = alive_](Result<void> r) {
    if (*alive && !r) hooks_.note(ha::Severity::error, "address.failed", r.error().message);
  });
  if (was_up && why != nullptr) {
    hooks_.note(ha::Severity::notice, "address.down", text(e.address) + ": " + why);
  }
}

void ServiceAddresses::failed(Entry& e, const std::string& why) {
  if (e.trouble == why) return;  // said already
  e.trouble = why;
  hooks_.note(ha::Severity::error, "address.failed", why);
}

// ---- neighbours ----

void ServiceAddresses::begin_announcing(Entry& e) {
  e.since = scheduler_.now();
  e.announced = 0;
}

Instant ServiceAddresses::next_announcement(const Entry& e) const {
  auto next = e.announced < announcements.size() ? e.since + announcements[e.announced]
                                                 : e.last_announcement + refresh_interval;
  if (e.contested) next = std::min(next, e.last_announcement + contested_interval);
  return next;
}

void ServiceAddresses::announce(Entry& e) {
  auto now = scheduler_.now();
  bool in_set = e.announced < announcements.size() && e.since + announcements[e.announced] <= now;
  if (e.contested && now >= e.last_duplicate + contested_for) e.contested = false;
  addresses_->announce(e.address);
  e.last_announcement = now;
  if (e.announced == 0 || !in_set) addresses_->probe(e.address);
  if (!in_set) return;
  if (!e.tickles.empty()) addresses_->tickle(e.address, e.port, e.tickles);
  // What is late is not made up for.
  while (e.announced < announcements.size() && e.since + announcements[e.announced] <= now) {
    ++e.announced;
  }
  if (e.announced >= first_set) e.tickles.clear();
}

void ServiceAddresses::on_link() {
  for (auto identity : identities) {
    auto& e = entry(identity);
    if (e.state != State::up) continue;
    bool link = addresses_->look(e.address).link;
    if (std::exchange(e.link, link) == link) continue;
    hooks_.note(link ? ha::Severity::notice : ha::Severity::warning, "address.link",
                fmt::format("the link of {} is {}", e.address.interface, link ? "up" : "down"));
    if (!link) continue;
    begin_announcing(e);  // perhaps at another port of another switch
    advance(identity);
  }
}

void ServiceAddresses::on_duplicate(const ports::ServiceAddress& address,
                                    const std::string& hardware) {
  for (auto identity : identities) {
    auto& e = entry(identity);
    if (e.state != State::up || !(e.address == address)) continue;
    e.last_duplicate = scheduler_.now();
    if (std::exchange(e.contested, true)) continue;
    hooks_.note(ha::Severity::warning, "address.duplicate",
                fmt::format("{} also claims {}; we hold the disks, so we go on and announce it",
                            hardware, text(e.address)));
    advance(identity);
  }
}

// ---- clients ----

void ServiceAddresses::on_clients(NodeId identity, const std::vector<std::string>& clients) {
  if (!entry(identity).managed) return;
  std::vector<Endpoint> endpoints;
  for (const auto& client : clients) {
    if (auto endpoint = Endpoint::parse(client); endpoint && endpoint->port != 0) {
      endpoints.push_back(*endpoint);
    }
  }
  for (auto& message : clients_.on_own(identity, std::move(endpoints), scheduler_.now())) {
    hooks_.send(std::move(message));
  }
}

bool ServiceAddresses::on_message(Bytes message) {
  if (!is_client_list(message)) return false;
  clients_.on_message(message);
  return true;
}

// ---- for people ----

ServiceAddresses::Report ServiceAddresses::report(NodeId identity) const {
  const auto& e = entry(identity);
  Report r;
  r.managed = e.managed;
  if (!e.managed) {
    r.text = "not managed: must be local on both nodes";
    return r;
  }
  r.kernel = addresses_->look(e.address);
  r.up = e.state == State::up && r.kernel.present;
  r.contested = e.contested;
  r.trouble = e.trouble;
  r.text = fmt::format("{} {}", e.address.interface, r.up ? "up" : "away");
  if (!r.kernel.interface_exists) {
    r.text += ", NO SUCH INTERFACE";
  } else if (!r.kernel.link) {
    r.text += ", LINK DOWN";
  }
  if (e.contested) r.text += ", claimed by another machine too";
  if (!r.trouble.empty()) r.text += ": " + r.trouble;
  return r;
}

}  // namespace duet::node
