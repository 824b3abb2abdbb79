// The service addresses of this node: up while the engine serves their identity under a valid
// lease, announced until the neighbours know, down before anything else
// (docs/protocols/addresses.md).
//
//   away --served, lease valid--> rising --done--> up     from either, when it is not both any more
//    ^                               |             |      or the kernel refuses: back
//    +-------------------------------+-------------+
//
// An identity whose service has no interface in the configuration is not managed: all of this does
// nothing.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "ha/events.h"
#include "node/client_list.h"
#include "node/config.h"
#include "ports/addresses.h"
#include "ports/scheduler.h"

namespace duet::node {

class ServiceAddresses {
 public:
  static constexpr Duration lifetime = seconds(2);
  static constexpr Duration renew_interval = milliseconds(500);
  // After coming up: two sets. The first one carries the tickles.
  static constexpr std::array announcements{
      milliseconds(0),    milliseconds(100),  milliseconds(300),  milliseconds(700),
      milliseconds(1500), milliseconds(5000), milliseconds(5100), milliseconds(5300)};
  static constexpr std::size_t first_set = 5;
  static constexpr Duration refresh_interval = seconds(30);
  static constexpr Duration contested_interval = milliseconds(250);
  static constexpr Duration contested_for = seconds(10);  // after the last sign of a duplicate

  struct Hooks {
    std::function<void(ha::Severity, std::string phase, std::string text)> note;
    std::function<void(std::vector<std::byte>)> send;  // to the partner; may be lost
  };

  // `addresses`: null, where none is managed.
  ServiceAddresses(const Config& config, ports::Scheduler& scheduler, ports::Addresses* addresses,
                   Hooks hooks);
  ~ServiceAddresses();
  ServiceAddresses(const ServiceAddresses&) = delete;
  ServiceAddresses& operator=(const ServiceAddresses&) = delete;

  // Takes down what an earlier daemon left.
  void start();
  // The engine listens on the address of `identity`.
  void serve(NodeId identity);
  // The lease of `identity` is valid until then.
  void on_lease(NodeId identity, Instant until);
  // Ensures: when these return the kernel has taken the addresses away, if it can.
  void withdraw(NodeId identity);
  void withdraw_all();

  // Peers ("address:port") of the connections to an identity that we serve.
  void on_clients(NodeId identity, const std::vector<std::string>& clients);
  // The interconnect is ready (again).
  void on_partner() { clients_.on_partner(); }
  // True if the message was for us.
  bool on_message(Bytes message);

  struct Report {
    bool managed = false;
    bool up = false;
    bool contested = false;  // somebody else claimed the address lately
    ports::AddressReport kernel;
    std::string trouble;  // why it is not up though it should be
    std::string text;     // all of it, for people
  };
  Report report(NodeId identity) const;
  std::uint64_t invalid_lists() const { return clients_.invalid(); }

 private:
  enum class State : std::uint8_t { away, rising, up };
  struct Entry {
    bool managed = false;
    ports::ServiceAddress address;
    std::uint16_t port = 0;
    State state = State::away;
    std::uint64_t life = 0;  // counts ways up: late completions are told apart
    bool served = false;
    Instant lease_until{};
    Instant renew_at{};  // or, while away, when the next attempt may be
    bool renewing = false;
    bool link = false;
    std::string trouble;
    // announcing
    Instant since{};
    std::size_t announced = 0;
    Instant last_announcement{};
    Instant last_duplicate{};
    bool contested = false;
    std::vector<Endpoint> tickles;
    ports::TimerId timer{};
  };

  Entry& entry(NodeId identity) { return entries_[identity.value()]; }
  const Entry& entry(NodeId identity) const { return entries_[identity.value()]; }
  bool wanted(const Entry& e) const { return e.served && scheduler_.now() < e.lease_until; }
  void advance(NodeId identity);
  void arm(NodeId identity);
  void raise(NodeId identity);
  void raised(NodeId identity, Result<void> r);
  void renew(NodeId identity);
  void drop(Entry& e, const char* why);
  void begin_announcing(Entry& e);
  Instant next_announcement(const Entry& e) const;
  void announce(Entry& e);
  void on_link();
  void on_duplicate(const ports::ServiceAddress& address, const std::string& hardware);
  void failed(Entry& e, const std::string& why);

  ports::Scheduler& scheduler_;
  ports::Addresses* addresses_;
  Hooks hooks_;
  ClientLists clients_;
  std::array<Entry, 3> entries_;  // by identity
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::node
