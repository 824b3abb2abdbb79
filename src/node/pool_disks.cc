#include "node/pool_disks.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "disk/areas.h"

namespace duet::node {
namespace {

struct Reading {
  std::vector<ports::Disk*> disks;
  ClusterId cluster;
  NodeId identity;
  std::vector<std::vector<std::byte>> blocks;
  std::size_t waiting = 0;
  std::optional<Error> error;
  ports::Done<LabelledPool> done;
};

std::unexpected<Error> bad(const ports::Disk& disk, const std::string& what) {
  return fail(ErrorCode::invalid, fmt::format("disk {}: {}", disk.name(), what));
}

Result<LabelledPool> assemble(Reading& r) {
  struct Labelled {
    disk::Label label;
    ports::Disk* disk;
  };
  std::vector<Labelled> members;
  for (std::size_t i = 0; i < r.disks.size(); ++i) {
    Bytes block = r.blocks[i];
    auto chosen = disk::choose_label(block.first(disk::area_block_size),
                                     block.subspan(disk::area_block_size, disk::area_block_size));
    if (!chosen) {
      return bad(*r.disks[i], chosen.error().message +
                                  "; label it with `duet init`, or take it out of "
                                  "the configuration");
    }
    const auto& label = chosen->label;
    if (label.cluster != r.cluster) return bad(*r.disks[i], "belongs to another cluster");
    if (label.owner != r.identity) {
      return bad(*r.disks[i], fmt::format("belongs to node {}: the shelves are mixed up in the "
                                          "configuration",
                                          label.owner.value()));
    }
    if (label.role == disk::Role::data) members.push_back({label, r.disks[i]});
  }
  std::ranges::sort(members, {}, [](const Labelled& m) { return m.label.position; });
  LabelledPool pool;
  for (std::size_t i = 0; i < members.size(); ++i) {
    const auto& [label, disk] = members[i];
    if (label.pool != members[0].label.pool) return bad(*disk, "belongs to another pool");
    if (label.position != i || label.disks_in_pool != members.size()) {
      return bad(*disk,
                 fmt::format("is number {} of {} in its pool, but {} data disks are configured",
                             label.position + 1, label.disks_in_pool, members.size()));
    }
    auto area = disk::data_area(label.size);
    if (!area || label.size > disk->geometry().size) {
      return bad(*disk, fmt::format("is smaller than its label says ({} bytes)", label.size));
    }
    pool.disks.push_back({disk, label.id, *area});
  }
  if (members.empty()) return fail(ErrorCode::invalid, "the shelf has no data disks");
  pool.pool = members[0].label.pool;
  return pool;
}

}  // namespace

void read_pool_disks(const std::vector<ports::Disk*>& disks, ClusterId cluster, NodeId identity,
                     ports::Done<LabelledPool> done) {
  ASSERT(!disks.empty());
  auto r = std::make_shared<Reading>();
  r->disks = disks;
  r->cluster = cluster;
  r->identity = identity;
  r->waiting = disks.size();
  r->blocks.resize(disks.size(), std::vector<std::byte>(disk::label_area.size));
  r->done = std::move(done);
  for (std::size_t i = 0; i < disks.size(); ++i) {
    disks[i]->read(disk::label_area.offset, r->blocks[i], [r, i](Result<void> read) {
      if (!read && !r->error) {
        r->error = Error{read.error().code,
                         fmt::format("disk {}: {}", r->disks[i]->name(), read.error().message)};
      }
      if (--r->waiting > 0) return;
      if (r->error) return r->done(std::unexpected(*r->error));
      r->done(assemble(*r));
    });
  }
}

}  // namespace duet::node
