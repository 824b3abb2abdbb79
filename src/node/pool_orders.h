// What an operator wants of the pool of an identity that is served here: looks, and orders by name
// (admin/control.h, PoolOrder). One for each time that the identity is served.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "admin/control.h"
#include "files/file_store.h"
#include "node/pool_disks.h"
#include "node/snapshot_schedule.h"
#include "pool/checker.h"
#include "pool/pool.h"
#include "ports/disk.h"
#include "ports/scheduler.h"

namespace duet::node {

class PoolOrders {
 public:
  struct Ports {
    ports::Scheduler& scheduler;
    pool::Pool& pool;                                  // active; outlives us
    std::function<std::vector<ports::Disk*>()> disks;  // those that may be touched
    std::function<std::int64_t()> wall_clock_ns;       // since 1970
    std::function<void(LunNumber)> lun_made;           // to be exported, unless it is
    // Who may use LUNs now; empty: nobody.
    std::function<std::string()> lun_user;
    // `then` when no client uses them any more; they are nobody's until lun_made. Error busy: one
    // of them is being deleted.
    std::function<Status(std::vector<LunNumber>, ports::Task then)> withdraw_luns;
    std::function<void(const std::vector<LunNumber>&)> luns_settled;  // may be deleted again
    std::function<void(std::string phase, std::string text)> log;
    std::function<files::FileStore*()> files;
  };
  struct Identity {
    ClusterId cluster;
    NodeId node;
    std::string name;                 // of the home node
    std::vector<ports::Disk*> disks;  // all, in the order of `luns`
    std::vector<std::uint16_t> luns;  // on the shelf
  };
  using Done = std::function<void(admin::PoolReply)>;

  static constexpr std::uint64_t scrub_rate = 64ull << 20;  // bytes per second and member
  static constexpr std::size_t problems_told = 20;          // of a check
  static constexpr std::size_t waiting_max = 256;           // orders

  // `labelled`: the disks that the pool was opened with.
  PoolOrders(Identity identity, Ports ports, std::vector<pool::Pool::Disk> labelled);
  ~PoolOrders();

  // Once answered, unless we are gone before.
  void carry_out(const admin::PoolOrder& order, Done done);
  // The identity goes: who waits is told.
  void close();

  // One that has come since the pool was opened.
  void disk_found(const pool::Pool::Disk& disk);
  // The clone that an order made for a LUN of its own goes with that LUN.
  void lun_deleted(pool::VolumeId volume, const std::string& name);

 private:
  void look(Done done) const;
  admin::PoolReport report() const;
  std::vector<admin::PoolDisk> disks() const;
  admin::PoolDisk disk_item(const DiskId& id) const;
  void list_volumes(admin::PoolReply& reply) const;
  void list_snapshots(const admin::PoolOrder& order, admin::PoolReply& reply) const;
  Status change_volumes(const admin::PoolOrder& order, Done& done);
  void clone_lun(const admin::PoolOrder& order, Done done);
  void start_check(bool data, Done done);
  void start_scrub(Done done);
  void with_labels(std::function<void(Status)> then);
  void restore(const admin::PoolOrder& order, Done done);
  void restore_file(const admin::PoolOrder& order, const std::string& volume, Done done);
  // pool_disk_orders.cc
  void change_disks(const admin::PoolOrder& order, Done done);
  Status change_disks(const admin::PoolOrder& order);
  std::vector<raid::Array::Disk> disks_to_claim(const admin::PoolOrder& order) const;
  void claim_disks(std::vector<raid::Array::Disk> disks, std::size_t claimed,
                   std::function<void(Status)> then);
  void drop_claims(const std::vector<raid::Array::Disk>& disks);
  Status fail_disk(const std::string& text);
  Status replace_disk(const admin::PoolOrder& order);
  void label_disk(const admin::PoolOrder& order, std::function<void(Status)> then);
  Status add_spare(const std::string& text);
  Status grow(const admin::PoolOrder& order);
  Status join(std::uint16_t group, const std::vector<pool::Pool::Disk>& disks);
  Status add_group(raid::Protection protection, const std::vector<pool::Pool::Disk>& disks);
  Status may_take(const std::string& text, const pool::Pool::Disk& disk) const;
  DiskId new_id(std::uint16_t lun) const;

  Result<pool::VolumeReport> find_volume(const std::string& name) const;
  Result<pool::VolumeReport> find_snapshot(const admin::PoolOrder& order) const;
  Result<std::uint32_t> find_member(const std::string& text) const;
  Result<pool::Pool::Disk> find_disk(const std::string& text) const;

  template <class T>
  ports::Done<T> answer(Done done);
  static void answer(const Done& done, const Status& status);

  Identity identity_;
  Ports ports_;
  std::vector<pool::Pool::Disk> labelled_;
  std::unique_ptr<pool::Checker> checker_;
  std::string last_check_, last_scrub_;
  bool restoring_file_ = false;
  std::vector<std::string> problems_;
  std::uint64_t consistency_points_ = 0;
  std::map<std::uint64_t, Done> waiting_;
  std::uint64_t last_waiting_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::node
