// What all machines of one core share: configuration, what is known of engine, disks, partner and
// mailboxes, and the keepers of both identities.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "disk/reservation_key.h"
#include "ha/absence.h"
#include "ha/config.h"
#include "ha/disk_fencer.h"
#include "ha/dump_collector.h"
#include "ha/dump_watch.h"
#include "ha/health.h"
#include "ha/heartbeat_watch.h"
#include "ha/lease_keeper.h"
#include "ha/mailbox_keeper.h"
#include "ha/messages.h"
#include "ha/output.h"
#include "ha/partner_monitor.h"
#include "ha/reason.h"

namespace duet::ha {

struct PartnerNvram {
  BootNonce boot;
  std::uint64_t nvram = 0;
};

struct World {
  World(Config configuration, BootNonce boot_nonce)
      : config(std::move(configuration)),
        nonce(boot_nonce),
        keepers{MailboxKeeper(config.cluster, NodeId(1), config.mailbox_disks_of(NodeId(1))),
                MailboxKeeper(config.cluster, NodeId(2), config.mailbox_disks_of(NodeId(2)))},
        leases{LeaseKeeper(config, NodeId(1)), LeaseKeeper(config, NodeId(2))},
        watch(config),
        monitor(config) {
    for (auto id : {NodeId(1), NodeId(2)}) {
      connected[id.value()].resize(config.disks(id));
      places[id.value()].resize(config.disks(id));
    }
  }

  NodeId self() const { return config.self; }
  NodeId partner() const { return config.partner(); }
  MailboxKeeper& keeper(NodeId identity) { return keepers[identity.value() - 1]; }
  LeaseKeeper& lease(NodeId identity) { return leases[identity.value() - 1]; }
  const LeaseKeeper& lease(NodeId identity) const { return leases[identity.value() - 1]; }
  std::optional<Mailbox>& mailbox(NodeId identity) { return mailboxes[identity.value() - 1]; }
  const std::optional<Mailbox>& mailbox(NodeId identity) const {
    return mailboxes[identity.value() - 1];
  }
  DiskSet missing(NodeId identity) const;  // disks without a path
  // May the identity do without these?
  bool bears(NodeId identity, const DiskSet& disks) const {
    return ha::bears(places[identity.value()], disks, config.mailbox_disks_of(identity));
  }
  // Every disk has a path, but for those that the identity can do without.
  bool enough_connected(NodeId identity) const { return bears(identity, missing(identity)); }
  // The same question for fencing: a disk that does not answer.
  auto tolerance(NodeId identity) const {
    return [this, identity](const DiskSet& disks) { return bears(identity, disks); };
  }
  // Disks that the identity is served, or about to be served, without: not fenced by us.
  const DiskSet& absent(NodeId identity) const { return absent_[identity.value()]; }
  void serve_without(NodeId identity, DiskSet disks) {
    keeper(identity).leave_out(disks);
    lease(identity).leave_out(disks);
    absent_[identity.value()] = std::move(disks);
  }
  ReservationKey key() const { return key_in(boot_epoch); }
  ReservationKey key_in(Epoch epoch) const {
    return disk::make_key(config.cluster, self(), disk::KeyRole::supervisor, epoch);
  }
  ReservationKey engine_key() const {
    return disk::make_key(config.cluster, self(), disk::KeyRole::engine, boot_epoch);
  }
  FenceRules rules(FenceMode mode, ports::ReservationType type) const {
    return {.mode = mode,
            .cluster = config.cluster,
            .self = self(),
            .key = key(),
            .engine_key = engine_key(),
            .type = type};
  }
  // Of the partner's present boot, and not older than health_record_life.
  std::optional<HealthRecord> fresh_partner_health(Instant now) const;
  Verdict verdict(Instant now) const { return monitor.verdict(watch, now); }
  void send(const decltype(Message::body)& body, BootNonce addressee, Output& out) const {
    if (addressee == BootNonce(0)) return;
    out.act(SendMessage{encode(Message{.cluster = config.cluster,
                                       .sender = self(),
                                       .sender_nonce = nonce,
                                       .sender_epoch = boot_epoch,
                                       .addressee = addressee,
                                       .body = body})});
  }

  Config config;
  BootNonce nonce;
  Epoch boot_epoch;  // of our own identity, as claimed in this boot; 0: not yet
  std::uint64_t progress = 1;
  std::optional<EngineReady> engine;
  ports::LinkState link = ports::LinkState::down;
  std::array<std::vector<bool>, 3> connected;  // by identity, disk
  std::array<Places, 3> places;                // by identity
  std::uint64_t connections = 0;               // of disks, so far
  std::array<MailboxKeeper, 2> keepers;
  std::array<LeaseKeeper, 2> leases;
  std::array<std::optional<Mailbox>, 2> mailboxes;  // as last read or written
  HeartbeatWatch watch;
  PartnerMonitor monitor;
  DumpWatch dump_watch;
  DumpCollector dump_collector;
  // Own: as the failover monitor reports and the core judges. Partner: as last received.
  std::optional<HealthRecord> own_health, partner_health;
  Instant partner_health_at{};
  std::optional<PartnerNvram> partner_nvram;  // from its mirror offer
  bool partner_fenced = false;                // by us, every disk of it
  bool suspended = false;                   // after a pause, until our reservations have been read
  std::array<std::uint64_t, 3> replayed{};  // records, by identity
  // Set by a machine that finds us fenced; the core then ends the boot at once.
  std::optional<std::string> fenced;

 private:
  std::array<DiskSet, 3> absent_;  // by identity
};

// Whether the acknowledged writes that a mailbox tells of can be had by the node whose NVRAM is
// `nvram`.
struct ReplayDecision {
  bool possible = false;
  bool replay = false;   // false and possible: everything is on disk
  bool own_log = false;  // replay: this node served under it; else it is the mirror of who did
  bool operator==(const ReplayDecision&) const = default;
};
ReplayDecision decide_replay(const Mailbox& mailbox, std::uint64_t nvram);

}  // namespace duet::ha
