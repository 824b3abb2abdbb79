#include "node/pool_orders.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "files/restore_file.h"
#include "pool/directory_names.h"

namespace duet::node {
namespace {

using admin::PoolVerb;
using pool::VolumeKind;
using pool::VolumeReport;

const char* name_of(raid::MemberState state) {
  switch (state) {
    case raid::MemberState::in_sync:
      return "in_sync";
    case raid::MemberState::failed:
      return "failed";
    case raid::MemberState::rebuilding:
      return "rebuilding";
  }
  UNREACHABLE();
}

bool is_spare(const raid::Layout& layout, const DiskId& id) {
  return std::ranges::find(layout.spares, id) != layout.spares.end();
}
bool is_member(const raid::Layout& layout, const DiskId& id) {
  return std::ranges::find(layout.members, id, &raid::Member::disk) != layout.members.end();
}

admin::PoolWork work(const raid::Progress& progress, std::string last) {
  return {progress.running, progress.done * raid::block_size, progress.total * raid::block_size,
          std::move(last)};
}

}  // namespace

PoolOrders::PoolOrders(Identity identity, Ports ports, std::vector<pool::Pool::Disk> labelled)
    : identity_(std::move(identity)), ports_(std::move(ports)), labelled_(std::move(labelled)) {}

PoolOrders::~PoolOrders() {
  *alive_ = false;
}

void PoolOrders::close() {
  for (auto& [id, done] : std::exchange(waiting_, {})) {
    answer(done, fail(ErrorCode::cancelled,
                      "the pool goes to another node; the change may still have happened"));
  }
}

void PoolOrders::answer(const Done& done, const Status& status) {
  admin::PoolReply reply;
  reply.ok = status.has_value();
  if (!status) reply.why = status.error().message;
  done(std::move(reply));
}

// For what the pool answers later.
template <class T>
ports::Done<T> PoolOrders::answer(Done done) {
  const auto id = ++last_waiting_;
  waiting_.emplace(id, std::move(done));
  return [this, id, alive = alive_](Result<T> result) {
    if (!*alive) return;
    auto node = waiting_.extract(id);
    if (node.empty()) return;
    answer(node.mapped(), result ? Status() : Status(std::unexpected(result.error())));
  };
}

void PoolOrders::carry_out(const admin::PoolOrder& order, Done done) {
  if (waiting_.size() >= waiting_max) {
    return answer(done, fail(ErrorCode::busy, "too many orders wait: try again"));
  }
  if (ports_.pool.array() == nullptr) {
    return answer(done, fail(ErrorCode::refused, "the pool is not open: " + ports_.pool.health()));
  }
  admin::PoolReply reply;
  reply.ok = true;
  switch (order.verb) {
    case PoolVerb::status:
      reply.report.push_back(report());
      return done(std::move(reply));
    case PoolVerb::volume_list:
      list_volumes(reply);
      return done(std::move(reply));
    case PoolVerb::snapshot_list:
      list_snapshots(order, reply);
      return done(std::move(reply));
    case PoolVerb::check:
      return start_check(order.data, std::move(done));
    case PoolVerb::scrub:
      return start_scrub(std::move(done));
    case PoolVerb::lun_clone:
      return clone_lun(order, std::move(done));
    case PoolVerb::disk_fail:
    case PoolVerb::disk_replace:
    case PoolVerb::disk_spare:
    case PoolVerb::disk_coredump:
    case PoolVerb::pool_grow:
      return change_disks(order, std::move(done));
    case PoolVerb::snapshot_restore:
      return restore(order, std::move(done));
    case PoolVerb::volume_create:
    case PoolVerb::volume_delete:
    case PoolVerb::volume_limit:
    case PoolVerb::snapshot_create:
    case PoolVerb::snapshot_delete:
    case PoolVerb::snapshot_clone:
      if (auto status = change_volumes(order, done); !status) answer(done, status);
      return;
  }
  answer(done, fail(ErrorCode::invalid, "no such order"));
}

// ---- looks ----

admin::PoolReport PoolOrders::report() const {
  auto& pool = ports_.pool;
  const auto& layout = pool.array()->layout();
  admin::PoolReport r;
  r.identity = identity_.node;
  r.name = identity_.name;
  r.health = pool.health();
  const auto capacity = pool.capacity();
  r.size = capacity.size;
  r.free = capacity.free;
  r.used = capacity.size - std::min(capacity.size, capacity.free);
  r.waiting = pool.dirty_bytes();
  r.consistency_points = pool.figures().consistency_points;
  r.consistency_point_under_way = pool.consistency_point_under_way();
  for (std::uint32_t i = 0; i < layout.groups.size(); ++i) {
    const auto data = std::ranges::count_if(
        layout.members, [i](const raid::Member& m) { return m.group == i && !m.parity; });
    r.groups.push_back(
        {i, std::string(raid::name(layout.groups[i].protection)),
         static_cast<std::uint64_t>(data) * layout.groups[i].blocks * raid::block_size});
  }
  r.disks = disks();
  r.rebuild = work(pool.array()->rebuild_progress(), {});
  r.scrub = work(pool.array()->scrub_progress(), last_scrub_);
  if (checker_) {
    const auto progress = checker_->progress();
    r.check = work({progress.running, progress.done, progress.total}, {});
  }
  r.check.last = last_check_;
  r.problems = problems_;
  return r;
}

admin::PoolDisk PoolOrders::disk_item(const DiskId& id) const {
  admin::PoolDisk item;
  item.disk = to_string(id);
  auto labelled = std::ranges::find(labelled_, id, &pool::Pool::Disk::id);
  if (labelled == labelled_.end()) return item;
  item.path = labelled->disk->name();
  item.present = labelled->disk->connected();
  for (std::size_t i = 0; i < identity_.disks.size() && i < identity_.luns.size(); ++i) {
    if (identity_.disks[i] == labelled->disk) item.lun = std::to_string(identity_.luns[i]);
  }
  return item;
}

std::vector<admin::PoolDisk> PoolOrders::disks() const {
  const auto& layout = ports_.pool.array()->layout();
  std::vector<admin::PoolDisk> items;
  for (const auto& member : ports_.pool.array()->report()) {
    auto item = disk_item(member.member.disk);
    item.member = fmt::format("m{}", member.number);
    item.group = member.member.group;
    item.role = member.member.parity ? "parity" : "data";
    item.state = name_of(member.member.state);
    item.present = member.present;
    item.slow = member.slow;
    item.read_errors = member.read_errors;
    item.repaired = member.repaired_blocks;
    item.rebuilt = member.member.rebuilt * raid::block_size;
    items.push_back(std::move(item));
  }
  for (const DiskId& spare : layout.spares) {
    items.push_back(disk_item(spare));
    items.back().member = "spare";
  }
  for (const auto& [joining, zeroed] : ports_.pool.array()->growing()) {
    items.push_back(disk_item(joining.disk));
    items.back().member = "joining";
    items.back().group = joining.group;
    items.back().rebuilt = zeroed * raid::block_size;
  }
  for (const auto& disk : labelled_) {
    const bool in_use =
        is_spare(layout, disk.id) || is_member(layout, disk.id) ||
        std::ranges::find(layout.joining, disk.id, &raid::Joining::disk) != layout.joining.end();
    if (in_use) continue;
    items.push_back(disk_item(disk.id));
    items.back().member = "unused";
  }
  return items;
}

void PoolOrders::list_volumes(admin::PoolReply& reply) const {
  const auto all = ports_.pool.volumes();
  const auto named = [&](pool::VolumeId id) -> std::string {
    auto found = std::ranges::find(all, id, &VolumeReport::id);
    return found == all.end() ? "" : found->name;
  };
  for (const auto& v : all) {
    if (v.kind != VolumeKind::volume) continue;
    if (reply.volumes.size() >= admin::PoolReply::volumes_max) {
      ++reply.more;
      continue;
    }
    admin::VolumeItem item{identity_.node, v.name,        {},        {},       v.used,
                           v.quota,        v.reservation, v.created, v.clones, v.deleting};
    if (auto origin = std::ranges::find(all, v.parent, &VolumeReport::id); origin != all.end()) {
      item.origin = named(origin->parent) + "/" + origin->name;
    }
    reply.volumes.push_back(std::move(item));
  }
}

void PoolOrders::list_snapshots(const admin::PoolOrder& order, admin::PoolReply& reply) const {
  const auto all = ports_.pool.volumes();
  for (const auto& v : all) {
    if (v.kind != VolumeKind::snapshot) continue;
    auto volume = std::ranges::find(all, v.parent, &VolumeReport::id);
    const std::string of = volume == all.end() ? "" : volume->name;
    if (!order.volume.empty() && of != order.volume) continue;
    if (reply.volumes.size() >= admin::PoolReply::volumes_max) {
      ++reply.more;
      continue;
    }
    reply.volumes.push_back(
        {identity_.node, v.name, of, {}, 0, 0, 0, v.created, v.clones, v.deleting});
  }
}

Result<VolumeReport> PoolOrders::find_volume(const std::string& name) const {
  for (const auto& v : ports_.pool.volumes()) {
    if (v.kind != VolumeKind::volume) continue;
    if (name.empty() ? v.id == pool::Pool::first_volume : v.name == name) return v;
  }
  return fail(ErrorCode::not_found, "no volume '" + name + "' in the pool of " + identity_.name +
                                        ": see `duet volume list`");
}

Result<VolumeReport> PoolOrders::find_snapshot(const admin::PoolOrder& order) const {
  auto volume = find_volume(order.volume);
  if (!volume) return volume;
  for (const auto& v : ports_.pool.volumes()) {
    if (v.kind == VolumeKind::snapshot && v.parent == volume->id && v.name == order.snapshot) {
      return v;
    }
  }
  return fail(ErrorCode::not_found, "volume " + volume->name + " has no snapshot '" +
                                        order.snapshot + "': see `duet snapshot list`");
}

// ---- volumes ----

// An error means that nothing was begun; otherwise the pool answers.
Status PoolOrders::change_volumes(const admin::PoolOrder& order, Done& done) {
  auto& pool = ports_.pool;
  if (order.verb == PoolVerb::volume_create) {
    pool.create_volume(order.name, answer<pool::VolumeId>(std::move(done)));
    return {};
  }
  auto volume = find_volume(order.volume);
  if (!volume) return std::unexpected(volume.error());
  if (order.verb == PoolVerb::volume_delete) {
    pool.delete_volume(volume->id, answer<void>(std::move(done)));
    return {};
  }
  if (order.verb == PoolVerb::volume_limit) {
    pool.set_limits(volume->id, order.quota, order.reservation, answer<void>(std::move(done)));
    return {};
  }
  if (order.verb == PoolVerb::snapshot_create) {
    pool.create_snapshot(volume->id, order.name, ports_.wall_clock_ns(),
                         answer<pool::VolumeId>(std::move(done)));
    return {};
  }
  auto snapshot = find_snapshot(order);
  if (!snapshot) return std::unexpected(snapshot.error());
  if (order.verb == PoolVerb::snapshot_delete) {
    pool.delete_snapshot(snapshot->id, answer<void>(std::move(done)));
  } else {
    pool.create_clone(snapshot->id, order.name, answer<pool::VolumeId>(std::move(done)));
  }
  return {};
}

// Who mounts a LUN does not expect its blocks to change behind his back.
void PoolOrders::restore(const admin::PoolOrder& order, Done done) {
  auto volume = find_volume(order.volume);
  if (!volume) return answer(done, std::unexpected(volume.error()));
  auto snapshot = find_snapshot(order);
  if (!snapshot) return answer(done, std::unexpected(snapshot.error()));
  if (!order.file.empty()) return restore_file(order, volume->name, std::move(done));
  std::vector<LunNumber> luns;
  std::string names;
  for (const auto& lun : ports_.pool.luns()) {
    if (ports_.pool.volume_of(lun.number) != volume->id) continue;
    if (!order.lun.empty() && lun.name != order.lun) continue;
    luns.push_back(lun.number);
    names += (names.empty() ? "" : ", ") + lun.name;
  }
  if (!order.lun.empty() && luns.empty()) {
    return answer(done, fail(ErrorCode::not_found, "volume " + volume->name + " has no LUN '" +
                                                       order.lun + "': see `duet lun list`"));
  }
  const std::string user = luns.empty() || order.force ? std::string() : ports_.lun_user();
  if (!user.empty()) {
    return answer(done, fail(ErrorCode::refused,
                             "LUNs of " + volume->name + " (" + names + ") may be in use by " +
                                 user + ": log it out, or take them from it with --force"));
  }
  auto told = std::make_shared<ports::Done<void>>(answer<void>(std::move(done)));
  auto ended = [this, alive = alive_, luns, told](Result<void> result) {
    if (!*alive) return;
    ports_.luns_settled(luns);
    for (const auto& lun : ports_.pool.luns()) ports_.lun_made(lun.number);
    (*told)(std::move(result));
  };
  auto withdrawn = [this, alive = alive_, ended, one = !order.lun.empty(), luns,
                    volume = volume->id, snapshot = snapshot->id] {
    if (!*alive) return;
    if (one) return ports_.pool.restore_lun(luns[0], snapshot, ended);
    ports_.pool.restore(volume, snapshot, ended);
  };
  if (auto begun = ports_.withdraw_luns(luns, withdrawn); !begun) {
    (*told)(std::unexpected(begun.error()));
  }
}

// One at a time: two of the same file would take each other's copy for their own.
void PoolOrders::restore_file(const admin::PoolOrder& order, const std::string& volume, Done done) {
  if (!order.lun.empty()) {
    return answer(done, fail(ErrorCode::invalid, "a LUN or a file, not both"));
  }
  if (restoring_file_) {
    return answer(done, fail(ErrorCode::busy, "another file is being restored: wait for it"));
  }
  restoring_file_ = true;
  files::restore_file(
      *ports_.files(), {volume, order.snapshot, order.file},
      [this, alive = alive_, told = answer<void>(std::move(done))](Status status) mutable {
        if (!*alive) return;
        restoring_file_ = false;
        told(std::move(status));
      });
}

void PoolOrders::clone_lun(const admin::PoolOrder& order, Done done) {
  const auto luns = ports_.pool.luns();
  auto lun = std::ranges::find(luns, order.lun, &filesystem::LunInfo::name);
  if (lun == luns.end()) {
    return answer(done, fail(ErrorCode::not_found, "no LUN '" + order.lun + "' in the pool of " +
                                                       identity_.name + ": see `duet lun list`"));
  }
  const auto home = ports_.pool.volume_of(lun->number);
  for (const auto& v : ports_.pool.volumes()) {
    if (v.kind != VolumeKind::snapshot || v.parent != home || v.name != order.snapshot) continue;
    const auto id = ++last_waiting_;
    waiting_.emplace(id, std::move(done));
    return ports_.pool.clone_lun(
        lun->number, v.id, order.name, [this, id, alive = alive_](Result<LunNumber> made) {
          if (!*alive) return;
          if (made) ports_.lun_made(*made);
          auto node = waiting_.extract(id);
          if (node.empty()) return;
          answer(node.mapped(), made ? Status() : Status(std::unexpected(made.error())));
        });
  }
  answer(done, fail(ErrorCode::not_found, "the volume of LUN " + order.lun + " has no snapshot '" +
                                              order.snapshot + "': see `duet snapshot list`"));
}

void PoolOrders::lun_deleted(pool::VolumeId volume, const std::string& name) {
  for (const auto& v : ports_.pool.volumes()) {
    const bool made_for_it = v.id == volume && v.name == name && v.parent != pool::pool_volume &&
                             v.id != pool::Pool::first_volume;
    if (!made_for_it) continue;
    // Refused when it has snapshots by now: then it is the operator's.
    ports_.pool.delete_volume(volume, [](Result<void>) {});
  }
}

// ---- background ----

void PoolOrders::start_check(bool data, Done done) {
  if (checker_ && checker_->progress().running) {
    return answer(
        done, fail(ErrorCode::busy, "a check is running: `duet pool status` shows how far it is"));
  }
  pool::Checker::Options options;
  options.data = data;
  options.read_directory = pool::directory_names;
  checker_ = std::make_unique<pool::Checker>(ports_.scheduler, ports_.pool, std::move(options));
  last_check_.clear();
  problems_.clear();
  checker_->start([this, alive = alive_](Result<pool::CheckReport> result) {
    if (!*alive) return;
    if (!result) {
      last_check_ = "could not check: " + result.error().message;
    } else {
      last_check_ = fmt::format("{} problems in {} blocks, {} files", result->problem_count,
                                result->blocks, result->files);
      problems_ = std::move(result->problems);
      if (problems_.size() > problems_told) problems_.resize(problems_told);
    }
    ports_.log("pool.check", "check of the pool of " + identity_.name + ": " + last_check_);
  });
  answer(done, {});
}

void PoolOrders::start_scrub(Done done) {
  if (ports_.pool.array()->scrub_progress().running) {
    return answer(
        done, fail(ErrorCode::busy, "a scrub is running: `duet pool status` shows how far it is"));
  }
  last_scrub_.clear();
  ports_.pool.array()->scrub(scrub_rate, [this, alive = alive_](Result<std::uint64_t> result) {
    if (!*alive) return;
    last_scrub_ = result ? fmt::format("{} stripes had wrong parity, now repaired", *result)
                         : "ended early: " + result.error().message;
    if (result && *result == 0) last_scrub_ = "all parity was right";
    ports_.log("pool.scrub", "scrub of the pool of " + identity_.name + ": " + last_scrub_);
  });
  answer(done, {});
}

}  // namespace duet::node
