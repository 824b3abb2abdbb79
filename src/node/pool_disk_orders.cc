// An operator's orders about the disks of a pool: out, in, spare, growth.
#include <fmt/format.h>
#include <openssl/sha.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "disk/areas.h"
#include "node/pool_orders.h"

namespace duet::node {
namespace {

using admin::PoolVerb;

std::optional<std::uint32_t> number_in(std::string_view text) {
  std::uint32_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return number;
}

std::unexpected<Error> no_such_disk(const std::string& text) {
  return fail(ErrorCode::not_found,
              "no disk '" + text +
                  "': name it by its LUN on the shelf (2) or by its member (m2), see `duet pool "
                  "status`");
}

bool is_spare(const raid::Layout& layout, const DiskId& id) {
  return std::ranges::find(layout.spares, id) != layout.spares.end();
}
bool is_member(const raid::Layout& layout, const DiskId& id) {
  return std::ranges::find(layout.members, id, &raid::Member::disk) != layout.members.end();
}

}  // namespace

// Done when the new layout is on the disks: whoever serves the pool next goes on with it.
void PoolOrders::change_disks(const admin::PoolOrder& order, Done done) {
  const auto change = [this, order, done](const Status& status) {
    if (!status) return answer(done, status);
    const auto disks = disks_to_claim(order);
    claim_disks(disks, 0, [this, order, disks, done](Status claimed) {
      if (claimed) claimed = change_disks(order);
      drop_claims(disks);
      if (!claimed) return answer(done, claimed);
      ports_.pool.when_on_disk(answer<void>(done));
    });
  };
  if (order.verb == PoolVerb::disk_fail) return change({});
  if (order.verb == PoolVerb::disk_coredump) {
    // No part of the pool: the label is all.
    return with_labels([this, order, done](Status status) {
      if (status && find_disk(order.disk)) {
        status = fail(ErrorCode::refused, "disk " + order.disk + " bears a label");
      }
      if (!status) return answer(done, status);
      label_disk(order, [done](const Status& labelled) { answer(done, labelled); });
    });
  }
  const auto label = [this, order, change](const Status& status) {
    if (!status || order.verb != PoolVerb::disk_spare || !order.label) return change(status);
    label_disk(order, change);
  };
  with_labels(label);
}

Status PoolOrders::change_disks(const admin::PoolOrder& order) {
  if (order.verb == PoolVerb::disk_fail) return fail_disk(order.disk);
  if (order.verb == PoolVerb::disk_replace) return replace_disk(order);
  if (order.verb == PoolVerb::disk_spare) return add_spare(order.disk);
  return grow(order);
}

void PoolOrders::disk_found(const pool::Pool::Disk& disk) {
  std::erase_if(labelled_,
                [&](const auto& old) { return old.id == disk.id || old.disk == disk.disk; });
  labelled_.push_back(disk);
}

// What becomes a member at once; what is wrong with the order it says when it is carried out.
std::vector<raid::Array::Disk> PoolOrders::disks_to_claim(const admin::PoolOrder& order) const {
  std::vector<std::string> named;
  if (order.verb == PoolVerb::disk_replace && !order.spare.empty()) named = {order.spare};
  if (order.verb == PoolVerb::pool_grow) named = order.disks;
  std::vector<raid::Array::Disk> disks;
  for (const std::string& text : named) {
    auto disk = find_disk(text);
    if (!disk || !may_take(text, *disk)) return {};
    if (std::ranges::find(disks, disk->id, &raid::Array::Disk::id) != disks.end()) return {};
    disks.push_back({disk->id, disk->disk, disk->data.offset});
  }
  return disks;
}

void PoolOrders::claim_disks(std::vector<raid::Array::Disk> disks, std::size_t claimed,
                             std::function<void(Status)> then) {
  if (claimed == disks.size()) return then({});
  const auto disk = disks[claimed];
  ports_.pool.array()->claim(disk, [this, alive = alive_, disks = std::move(disks), claimed,
                                    then = std::move(then)](Result<void> r) mutable {
    if (!*alive) return;
    if (r) return claim_disks(std::move(disks), claimed + 1, std::move(then));
    disks.resize(claimed);
    drop_claims(disks);
    then(std::move(r));
  });
}

void PoolOrders::drop_claims(const std::vector<raid::Array::Disk>& disks) {
  auto* array = ports_.pool.array();
  for (const auto& disk : disks) {
    if (array != nullptr) array->drop_claim(disk.id);
  }
}

// Disks may have come since the pool was opened. One without a path is not asked.
void PoolOrders::with_labels(std::function<void(Status)> then) {
  auto disks = ports_.disks();
  std::erase_if(disks, [](const auto* disk) { return !disk->connected(); });
  if (disks.empty()) return then(fail(ErrorCode::disconnected, "no disk of the pool is at hand"));
  read_pool_disks(disks, identity_.cluster, identity_.node,
                  [this, alive = alive_, then = std::move(then)](Result<LabelledPool> found) {
                    if (!*alive) return;
                    if (!found) return then(std::unexpected(found.error()));
                    auto* array = ports_.pool.array();
                    if (array == nullptr)
                      return then(fail(ErrorCode::refused, "the pool is not open"));
                    for (const auto& disk : found->disks) disk_found(disk);
                    then({});
                  });
}

Result<pool::Pool::Disk> PoolOrders::find_disk(const std::string& text) const {
  const auto lun = number_in(text);
  for (std::size_t i = 0; lun && i < identity_.disks.size() && i < identity_.luns.size(); ++i) {
    if (identity_.luns[i] != *lun) continue;
    auto labelled = std::ranges::find(labelled_, identity_.disks[i], &pool::Pool::Disk::disk);
    if (labelled != labelled_.end()) return *labelled;
    return fail(ErrorCode::not_found, "disk " + text +
                                          " has no readable label: see `duet disk list`, or name "
                                          "its member (m2)");
  }
  return no_such_disk(text);
}

Result<std::uint32_t> PoolOrders::find_member(const std::string& text) const {
  const auto& members = ports_.pool.array()->layout().members;
  if (text.starts_with('m')) {
    const auto number = number_in(std::string_view(text).substr(1));
    if (number && *number < members.size()) return *number;
    return no_such_disk(text);
  }
  auto disk = find_disk(text);
  if (!disk) return std::unexpected(disk.error());
  auto member = std::ranges::find(members, disk->id, &raid::Member::disk);
  if (member != members.end()) return static_cast<std::uint32_t>(member - members.begin());
  return fail(ErrorCode::not_found, "disk " + text + " is no member of the pool");
}

// One that joins a group joins no more.
Status PoolOrders::fail_disk(const std::string& text) {
  if (auto disk = find_disk(text)) {
    if (ports_.pool.array()->stop_joining(disk->id)) return {};
  }
  auto member = find_member(text);
  if (!member) return std::unexpected(member.error());
  return ports_.pool.array()->fail_member(*member);
}

Status PoolOrders::replace_disk(const admin::PoolOrder& order) {
  auto* array = ports_.pool.array();
  auto member = find_member(order.disk);
  if (!member) return std::unexpected(member.error());
  const raid::Member state = array->layout().members[*member];
  if (state.state != raid::MemberState::failed) {
    return fail(ErrorCode::refused,
                fmt::format("m{} has not failed: `duet disk fail` it first", *member));
  }
  DiskId id = state.disk;
  std::optional<pool::Pool::Disk> at_hand;
  if (!order.spare.empty()) {
    auto disk = find_disk(order.spare);
    if (!disk) return std::unexpected(disk.error());
    at_hand = *disk;
    id = disk->id;
  } else if (auto own = std::ranges::find(labelled_, id, &pool::Pool::Disk::id);
             own != labelled_.end()) {
    at_hand = *own;
  }
  if (!at_hand || !at_hand->disk->connected()) {
    return fail(ErrorCode::refused, "the disk is not at hand: bring it back, or name a spare");
  }
  const raid::Array::Disk disk{id, at_hand->disk, at_hand->data.offset};
  const bool stranger = id != state.disk && !is_spare(array->layout(), id);
  if (stranger) {
    // As a spare it may take this place by itself.
    if (auto added = array->add_spare(disk); !added) return added;
    const auto& now = array->layout().members[*member];
    if (now.disk == id && now.state == raid::MemberState::rebuilding) return {};
  }
  array->disk_returned(disk);
  return array->replace_member(*member, id);
}

// ---- new disks ----

// Nothing that bears a label, whole or damaged, is overwritten.
void PoolOrders::label_disk(const admin::PoolOrder& order, std::function<void(Status)> then) {
  if (find_disk(order.disk)) return then({});
  const auto lun = number_in(order.disk);
  ports::Disk* disk = nullptr;
  for (std::size_t i = 0; lun && i < identity_.disks.size() && i < identity_.luns.size(); ++i) {
    if (identity_.luns[i] == *lun) disk = identity_.disks[i];
  }
  if (disk == nullptr) return then(no_such_disk(order.disk));
  const auto usable = ports_.disks();
  if (std::ranges::find(usable, disk) == usable.end() || !disk->connected()) {
    return then(fail(ErrorCode::refused, "disk " + order.disk + " is not at hand"));
  }
  disk::Label label;
  label.cluster = identity_.cluster;
  label.id = new_id(static_cast<std::uint16_t>(*lun));
  label.owner = identity_.node;
  bool for_dumps = order.verb == PoolVerb::disk_coredump;
  label.role = for_dumps ? disk::Role::coredump : disk::Role::spare;
  label.size = disk::usable_size(disk->geometry().size);
  label.pool = ports_.pool.id();
  label.pool_name = identity_.name;
  label_blank_disk(*disk, label,
                   [this, alive = alive_, then = std::move(then)](Result<void> status) {
                     if (!*alive) return;
                     if (!status) return then(std::move(status));
                     with_labels(then);
                   });
}

// Of what no other disk has: the pool, the place, the time.
DiskId PoolOrders::new_id(std::uint16_t lun) const {
  const std::string text =
      fmt::format("{} {} {} {}", to_hex(std::as_bytes(std::span(ports_.pool.id()))),
                  identity_.node.value(), lun, ports_.wall_clock_ns());
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  DiskId id;
  std::copy_n(digest.begin(), id.bytes.size(), id.bytes.begin());
  return id;
}

Status PoolOrders::add_spare(const std::string& text) {
  auto* array = ports_.pool.array();
  auto disk = find_disk(text);
  if (!disk) {
    return fail(disk.error().code, disk.error().message +
                                       "; --label writes one on a disk that bears none, and what "
                                       "else it bears is lost");
  }
  const auto& layout = array->layout();
  if (is_member(layout, disk->id)) {
    return fail(ErrorCode::refused,
                "disk " + text + " is a member of the pool: `duet disk replace` takes it in again");
  }
  if (is_spare(layout, disk->id)) return {};
  if (auto may = may_take(text, *disk); !may) return may;
  ports_.pool.disk_returned(*disk->disk, disk->id, disk->data);
  return array->add_spare({disk->id, disk->disk, disk->data.offset});
}

Status PoolOrders::may_take(const std::string& text, const pool::Pool::Disk& disk) const {
  const auto& layout = ports_.pool.array()->layout();
  if (is_member(layout, disk.id)) {
    return fail(ErrorCode::refused, "disk " + text + " is a member of the pool already");
  }
  if (std::ranges::find(layout.joining, disk.id, &raid::Joining::disk) != layout.joining.end()) {
    return fail(ErrorCode::refused, "disk " + text + " joins a group already");
  }
  if (!disk.disk->connected()) {
    return fail(ErrorCode::refused, "disk " + text + " is not at hand");
  }
  return {};
}

Status PoolOrders::grow(const admin::PoolOrder& order) {
  std::vector<pool::Pool::Disk> disks;
  for (const std::string& text : order.disks) {
    auto disk = find_disk(text);
    if (!disk) {
      return fail(disk.error().code, disk.error().message + "; `duet disk spare --label` first");
    }
    if (auto may = may_take(text, *disk); !may) return may;
    if (std::ranges::find(disks, disk->id, &pool::Pool::Disk::id) != disks.end()) {
      return fail(ErrorCode::invalid, "disk " + text + " is named twice");
    }
    disks.push_back(*disk);
  }
  if (disks.empty()) return fail(ErrorCode::invalid, "no disk is named");
  const auto known = [&](const std::string& name) { return order.protection == name; };
  if (known("")) return join(static_cast<std::uint16_t>(order.group), disks);
  if (known("none")) return add_group(raid::Protection::none, disks);
  if (known("raid4")) return add_group(raid::Protection::single, disks);
  if (known("dual")) return add_group(raid::Protection::dual, disks);
  return fail(ErrorCode::invalid, "a group has the protection none, raid4 or dual");
}

// All of them, or none.
Status PoolOrders::join(std::uint16_t group, const std::vector<pool::Pool::Disk>& disks) {
  auto* array = ports_.pool.array();
  const raid::Layout layout = array->layout();
  if (group >= layout.groups.size()) {
    return fail(ErrorCode::not_found, fmt::format("the pool has no group {}", group));
  }
  for (const auto& disk : disks) {
    if (disk.data.size / raid::block_size >= layout.groups[group].blocks) continue;
    return fail(ErrorCode::invalid,
                fmt::format("disk {} is smaller than those of group {}", disk.disk->name(), group));
  }
  const auto data = std::ranges::count_if(
      layout.members, [group](const raid::Member& m) { return m.group == group && !m.parity; });
  const auto joining = std::ranges::count(layout.joining, group, &raid::Joining::group);
  if (static_cast<std::size_t>(data + joining) + disks.size() > raid::max_group_data ||
      layout.joining.size() + disks.size() > raid::max_joining) {
    return fail(ErrorCode::invalid, fmt::format("group {} cannot take so many disks", group));
  }
  for (const auto& disk : disks) {
    ports_.pool.disk_returned(*disk.disk, disk.id, disk.data);
    array->add_member(group, {disk.id, disk.disk, disk.data.offset},
                      [this, alive = alive_, name = disk.disk->name()](Result<std::uint32_t> r) {
                        if (!*alive) return;
                        ports_.log("pool.grow", r ? fmt::format("{} is m{} now", name, *r)
                                                  : name + " did not join: " + r.error().message);
                      });
  }
  return {};
}

Status PoolOrders::add_group(raid::Protection protection,
                             const std::vector<pool::Pool::Disk>& disks) {
  std::vector<raid::Array::Disk> members;
  std::uint64_t blocks = raid::max_member_blocks;
  for (const auto& disk : disks) {
    members.push_back({disk.id, disk.disk, disk.data.offset});
    blocks = std::min(blocks, disk.data.size / raid::block_size);
  }
  if (disks.size() <= raid::parity_count(protection)) {
    return fail(ErrorCode::invalid,
                fmt::format("a {} group has at least {} disks", raid::name(protection),
                            raid::parity_count(protection) + 1));
  }
  for (const auto& disk : disks) ports_.pool.disk_returned(*disk.disk, disk.id, disk.data);
  return ports_.pool.array()->add_group(protection, members, blocks);
}

}  // namespace duet::node
