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
  bool whole = true;  // a pool, not only more disks of one
  std::vector<std::vector<std::byte>> blocks;
  std::vector<std::optional<Error>> errors;  // by disk
  std::size_t waiting = 0;
  ports::Done<LabelledPool> done;
};

std::unexpected<Error> bad(const ports::Disk& disk, const std::string& what) {
  return fail(ErrorCode::invalid, fmt::format("disk {}: {}", disk.name(), what));
}

Result<LabelledPool> assemble(Reading& r) {
  LabelledPool pool;
  bool any = false;
  std::optional<Error> first;
  const auto missing = [&](std::size_t i, const Error& error) {
    const std::string text = fmt::format("disk {}: {}", r.disks[i]->name(), error.message);
    if (!first) first = Error{error.code, text};
    pool.missing.push_back(text);
  };
  for (std::size_t i = 0; i < r.disks.size(); ++i) {
    if (r.errors[i]) {
      if (r.errors[i]->code == ErrorCode::reservation_conflict)
        return std::unexpected(*r.errors[i]);
      missing(i, *r.errors[i]);
      continue;
    }
    const Bytes block = r.blocks[i];
    auto chosen = disk::choose_label(block.first(disk::area_block_size),
                                     block.subspan(disk::area_block_size, disk::area_block_size));
    if (!chosen) {
      missing(i, {chosen.error().code, chosen.error().message +
                                           "; label it with `duet init`, or take it out of the "
                                           "configuration"});
      continue;
    }
    const auto& label = chosen->label;
    if (label.cluster != r.cluster) return bad(*r.disks[i], "belongs to another cluster");
    if (label.owner != r.identity) {
      return bad(*r.disks[i], fmt::format("belongs to node {}: the shelves are mixed up in the "
                                          "configuration",
                                          label.owner.value()));
    }
    if (label.role == disk::Role::coredump) continue;
    auto area = disk::data_area(label.size);
    if (!area || label.size > r.disks[i]->geometry().size) {
      return bad(*r.disks[i], fmt::format("is smaller than its label says ({} bytes)", label.size));
    }
    if (label.role == disk::Role::data) {
      if (any && label.pool != pool.pool) return bad(*r.disks[i], "belongs to another pool");
      pool.pool = label.pool;
      any = true;
    }
    pool.disks.push_back({r.disks[i], label.id, *area});
  }
  if (!any && first) return std::unexpected(*first);
  if (!any && r.whole) return fail(ErrorCode::invalid, "the shelf has no data disks");
  return pool;
}

void read(std::shared_ptr<Reading> r) {
  const auto& disks = r->disks;
  ASSERT(!disks.empty());
  r->waiting = disks.size();
  r->blocks.resize(disks.size(), std::vector<std::byte>(disk::label_area.size));
  r->errors.resize(disks.size());
  for (std::size_t i = 0; i < disks.size(); ++i) {
    disks[i]->read(disk::label_area.offset, r->blocks[i], [r, i](Result<void> read) {
      if (!read) r->errors[i] = read.error();
      if (--r->waiting > 0) return;
      r->done(assemble(*r));
    });
  }
}

std::shared_ptr<Reading> reading_of(std::vector<ports::Disk*> disks, ClusterId cluster,
                                    NodeId identity, ports::Done<LabelledPool> done) {
  auto r = std::make_shared<Reading>();
  r->disks = std::move(disks);
  r->cluster = cluster;
  r->identity = identity;
  r->done = std::move(done);
  return r;
}

}  // namespace

void read_pool_disks(const std::vector<ports::Disk*>& disks, ClusterId cluster, NodeId identity,
                     ports::Done<LabelledPool> done) {
  read(reading_of(disks, cluster, identity, std::move(done)));
}

void read_returned_disk(ports::Disk& disk, ClusterId cluster, NodeId identity,
                        ports::Done<LabelledPool> done) {
  auto r = reading_of({&disk}, cluster, identity, std::move(done));
  r->whole = false;
  read(std::move(r));
}

namespace {

struct Labelling {
  ports::Disk& disk;
  Slice block;
  ports::Done<void> done;
  std::vector<std::byte> before = std::vector<std::byte>(disk::label_area.size);
};

// L1: copy 0 is durable before copy 1 is begun.
void write_copy(const std::shared_ptr<Labelling>& l, int copy) {
  if (copy == disk::label_copies) return l->done({});
  l->disk.write(disk::label_copy(copy).offset, {l->block}, true, [l, copy](Result<void> written) {
    if (!written) return l->done(std::move(written));
    write_copy(l, copy + 1);
  });
}

}  // namespace

void label_blank_disk(ports::Disk& disk, const disk::Label& label, ports::Done<void> done) {
  auto l = std::make_shared<Labelling>(disk, Slice{}, std::move(done));
  auto block = disk::encode_label(label);
  if (block) l->block = copy_to_slice(*block);
  disk.read(
      disk::label_area.offset, l->before,
      [l, status = block ? Status() : Status(std::unexpected(block.error()))](Result<void> read) {
        if (!read) return l->done(std::move(read));
        if (!status) return l->done(status);
        auto found = disk::choose_label(
            Bytes(l->before).first(disk::area_block_size),
            Bytes(l->before).subspan(disk::area_block_size, disk::area_block_size));
        if (!found && found.error().code == ErrorCode::not_found) return write_copy(l, 0);
        l->done(bad(l->disk, found ? "bears a label already" : found.error().message));
      });
}

}  // namespace duet::node
