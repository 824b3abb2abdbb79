#include "node/disk_registration.h"

#include <algorithm>

#include "disk/reservation_key.h"

namespace duet::node {
namespace {

// Waits for all disks; remembers the first error.
struct AllDisks {
  std::size_t waiting;
  Status result{};
  ports::Done<void> done;

  void arrived(Status status) {
    if (!status && result) result = std::move(status);
    if (--waiting == 0) done(std::move(result));
  }
};

Error on(const ports::Disk& disk, const Error& error) {
  return {error.code, "disk " + disk.name() + ": " + error.message};
}

struct Registration {
  ports::Disk& disk;
  ReservationKey key;
  ReservationKey holder;
  std::shared_ptr<AllDisks> all;

  void finish(Status status) const {
    all->arrived(status ? Status() : Status(std::unexpected(on(disk, status.error()))));
  }
  void start() const {
    disk.register_key(key, [self = *this](Result<void> r) {
      if (!r) return self.finish(r);
      self.check_holder();
    });
  }
  void check_holder() const {
    disk.read_reservation([self = *this](Result<ports::ReservationState> r) {
      if (!r) return self.finish(std::unexpected(r.error()));
      if (!r->reserved || r->holder != self.holder) {
        return self.finish(
            fail(ErrorCode::reservation_conflict,
                 r->reserved ? "reserved by " + disk::describe(r->holder) : "not reserved"));
      }
      self.check_keys();
    });
  }
  void check_keys() const {
    disk.read_keys([self = *this](Result<ports::RegisteredKeys> r) {
      if (!r) return self.finish(std::unexpected(r.error()));
      if (std::ranges::find(r->keys, self.key) == r->keys.end()) {
        return self.finish(fail(ErrorCode::reservation_conflict, "our registration is gone"));
      }
      self.finish({});
    });
  }
};

}  // namespace

void register_engine(const std::vector<ports::Disk*>& disks, ReservationKey key,
                     ReservationKey holder, ports::Done<void> done) {
  ASSERT(!disks.empty());
  auto all = std::make_shared<AllDisks>();
  all->waiting = disks.size();
  all->done = [disks, done = std::move(done)](Result<void> r) mutable {
    if (r) return done({});
    unregister_engine(disks, [done = std::move(done), error = r.error()](Result<void>) mutable {
      done(std::unexpected(std::move(error)));
    });
  };
  for (auto* disk : disks) Registration{*disk, key, holder, all}.start();
}

void unregister_engine(const std::vector<ports::Disk*>& disks, ports::Done<void> done) {
  auto all = std::make_shared<AllDisks>();
  all->waiting = disks.size();
  all->done = std::move(done);
  for (auto* disk : disks) {
    disk->register_key(ReservationKey{}, [all](Result<void>) { all->arrived({}); });
  }
}

}  // namespace duet::node
