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

struct Registration : std::enable_shared_from_this<Registration> {
  Registration(ports::Disk& d, ReservationKey k, ReservationKey h,
               std::shared_ptr<AllDisks> registered_all, std::shared_ptr<AllDisks> verified_all)
      : disk(d),
        key(k),
        holder(h),
        registered(std::move(registered_all)),
        verified(std::move(verified_all)) {}

  void start() {
    disk.register_key(key, [self = shared_from_this()](Result<void> r) {
      self->registered->arrived(r);
      if (!r) return self->finish(std::move(r));
      self->verify();
    });
  }
  // Both questions at once: each answer is the truth after our registration.
  void verify() {
    disk.read_reservation([self = shared_from_this()](Result<ports::ReservationState> r) {
      if (!r) {
        self->verdict = std::unexpected(r.error());
      } else if (!r->reserved || r->holder != self->holder) {
        self->verdict =
            fail(ErrorCode::reservation_conflict,
                 r->reserved ? "reserved by " + disk::describe(r->holder) : "not reserved");
      }
      self->answered();
    });
    disk.read_keys([self = shared_from_this()](Result<ports::RegisteredKeys> r) {
      if (!r) {
        self->verdict = std::unexpected(r.error());
      } else if (std::ranges::find(r->keys, self->key) == r->keys.end() && self->verdict) {
        self->verdict = fail(ErrorCode::reservation_conflict, "our registration is gone");
      }
      self->answered();
    });
  }
  void answered() {
    if (--questions == 0) finish(std::move(verdict));
  }
  void finish(Status status) const {
    verified->arrived(status ? Status() : Status(std::unexpected(on(disk, status.error()))));
  }

  ports::Disk& disk;
  ReservationKey key;
  ReservationKey holder;
  std::shared_ptr<AllDisks> registered;
  std::shared_ptr<AllDisks> verified;
  int questions = 2;
  Status verdict;
};

std::shared_ptr<AllDisks> wait_for(std::size_t disks, ports::Done<void> done) {
  auto all = std::make_shared<AllDisks>();
  all->waiting = disks;
  all->done = std::move(done);
  return all;
}

}  // namespace

void register_engine(const std::vector<ports::Disk*>& disks, ReservationKey key,
                     ReservationKey holder, ports::Task may_read, ports::Done<void> done) {
  ASSERT(!disks.empty());
  auto registered =
      wait_for(disks.size(), [may_read = std::move(may_read)](Result<void> r) mutable {
        if (r) may_read();
      });
  auto verified = wait_for(disks.size(), [disks, done = std::move(done)](Result<void> r) mutable {
    if (r) return done({});
    unregister_engine(disks, [done = std::move(done), error = r.error()](Result<void>) mutable {
      done(std::unexpected(std::move(error)));
    });
  });
  for (auto* disk : disks) {
    std::make_shared<Registration>(*disk, key, holder, registered, verified)->start();
  }
}

void unregister_engine(const std::vector<ports::Disk*>& disks, ports::Done<void> done) {
  if (disks.empty()) return done({});
  auto all = wait_for(disks.size(), std::move(done));
  for (auto* disk : disks) {
    disk->register_key(ReservationKey{}, [all](Result<void>) { all->arrived({}); });
  }
}

}  // namespace duet::node
