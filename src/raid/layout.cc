#include "raid/layout.h"

#include <set>
#include <string>

#include "base/assert.h"

namespace duet::raid {
namespace {

constexpr std::uint16_t format_version = 1;

struct Columns {
  std::uint32_t data = 0;    // mask by role
  std::uint32_t parity = 0;  // mask by role
  std::uint32_t out_of_sync = 0;
};

std::string member_name(std::size_t number) {
  return "member " + std::to_string(number);
}

// Rules L4 to L7, one member.
Status check_member(const Layout& layout, std::size_t number, std::vector<Columns>& columns) {
  const Member& member = layout.members[number];
  const std::string who = member_name(number);
  if (member.group >= layout.groups.size()) {
    return fail(ErrorCode::invalid, who + " is of a group that does not exist");
  }
  const Group& group = layout.groups[member.group];
  if (member.state > MemberState::rebuilding) {
    return fail(ErrorCode::invalid, who + " has an unknown state");
  }
  if (member.role >= (member.parity ? parity_count(group.protection) : max_group_data)) {
    return fail(ErrorCode::invalid, who + " has a role beyond its group");
  }
  Columns& of_group = columns[member.group];
  std::uint32_t& roles = member.parity ? of_group.parity : of_group.data;
  const std::uint32_t bit = 1u << member.role;
  if ((roles & bit) != 0) return fail(ErrorCode::invalid, who + " has a role that is taken");
  roles |= bit;
  if (member.state != MemberState::in_sync) ++of_group.out_of_sync;
  if (member.kept_out && member.state != MemberState::failed) {
    return fail(ErrorCode::invalid, who + " is kept out, and has not failed");
  }
  if (member.rebuilt > (member.state == MemberState::rebuilding ? group.blocks : 0)) {
    return fail(ErrorCode::invalid, who + " is rebuilt beyond its end");
  }
  return {};
}

// Rules L2, L3, L7, L8, one group.
Status check_group(const Group& group, std::size_t number, const Columns& columns) {
  const std::string who = "group " + std::to_string(number);
  if (group.blocks <= reserved_blocks || group.blocks > max_member_blocks) {
    return fail(ErrorCode::invalid, who + " has no possible size");
  }
  if (columns.data == 0 || (columns.data & (columns.data + 1)) != 0) {
    return fail(ErrorCode::invalid, who + " has no data members, or a gap between them");
  }
  if (columns.parity != (1u << parity_count(group.protection)) - 1) {
    return fail(ErrorCode::invalid, who + " lacks a parity member");
  }
  if (columns.out_of_sync > parity_count(group.protection)) {
    return fail(ErrorCode::invalid, who + " lacks more members than its protection bears");
  }
  return {};
}

}  // namespace

std::string_view name(Protection p) {
  switch (p) {
    case Protection::none:
      return "RAID 0";
    case Protection::single:
      return "RAID 4";
    case Protection::dual:
      return "dual parity";
  }
  UNREACHABLE();
}

Status check(const Layout& layout) {
  if (layout.groups.empty() || layout.groups.size() > max_groups ||
      layout.members.size() > max_members || layout.spares.size() > max_spares ||
      layout.joining.size() > max_joining) {
    return fail(ErrorCode::invalid, "the layout has no groups, or too much of something");
  }
  for (std::size_t i = 0; i < layout.groups.size(); ++i) {
    if (layout.groups[i].protection > Protection::dual) {
      return fail(ErrorCode::invalid,
                  "group " + std::to_string(i) + " has a protection that is unknown");
    }
  }
  std::vector<Columns> columns(layout.groups.size());
  for (std::size_t i = 0; i < layout.members.size(); ++i) {
    if (auto status = check_member(layout, i, columns); !status) return status;
  }
  for (std::size_t i = 0; i < layout.groups.size(); ++i) {
    if (auto status = check_group(layout.groups[i], i, columns[i]); !status) return status;
  }
  std::set<DiskId> disks(layout.spares.begin(), layout.spares.end());
  for (const Member& member : layout.members) disks.insert(member.disk);
  for (const Joining& joining : layout.joining) {
    disks.insert(joining.disk);
    if (joining.group >= layout.groups.size()) {
      return fail(ErrorCode::invalid, "a disk joins a group that does not exist");
    }
  }
  if (disks.size() != layout.members.size() + layout.spares.size() + layout.joining.size()) {
    return fail(ErrorCode::invalid, "a disk has two places");
  }
  return {};
}

void encode(const Layout& layout, ByteWriter& out) {
  out.put(format_version);
  out.put(static_cast<std::uint16_t>(layout.groups.size()));
  out.put(static_cast<std::uint16_t>(layout.members.size()));
  out.put(static_cast<std::uint16_t>(layout.spares.size()));
  for (const Group& group : layout.groups) {
    out.put(static_cast<std::uint64_t>(group.protection));
    out.put(group.blocks);
  }
  for (const Member& member : layout.members) {
    out.put_bytes(std::as_bytes(std::span(member.disk.bytes)));
    out.put(member.group);
    out.put(static_cast<std::uint8_t>(member.parity ? 1 : 0));
    out.put(member.role);
    out.put(static_cast<std::uint8_t>(member.state));
    out.put(static_cast<std::uint8_t>(member.kept_out ? 1 : 0));
    out.put<std::uint16_t>(0);
    out.put(member.rebuilt);
  }
  for (const DiskId& spare : layout.spares) out.put_bytes(std::as_bytes(std::span(spare.bytes)));
  out.put(static_cast<std::uint64_t>(layout.joining.size()));
  for (const Joining& joining : layout.joining) {
    out.put_bytes(std::as_bytes(std::span(joining.disk.bytes)));
    out.put(static_cast<std::uint64_t>(joining.group));
  }
}

namespace {

DiskId get_disk(ByteReader& in) {
  DiskId id;
  const Bytes bytes = in.get_bytes(id.bytes.size());
  if (bytes.size() == id.bytes.size()) std::memcpy(id.bytes.data(), bytes.data(), bytes.size());
  return id;
}

}  // namespace

Result<Layout> decode_layout(ByteReader& in) {
  const auto version = in.get<std::uint16_t>();
  const std::size_t groups = in.get<std::uint16_t>();
  const std::size_t members = in.get<std::uint16_t>();
  const std::size_t spares = in.get<std::uint16_t>();
  if (!in.ok() || version != format_version || groups > max_groups || members > max_members ||
      spares > max_spares) {
    return fail(ErrorCode::invalid, "no layout of a version that we speak");
  }
  Layout layout;
  for (std::size_t i = 0; i < groups; ++i) {
    const auto protection = in.get<std::uint64_t>();
    if (protection > parity_count(Protection::dual)) {
      return fail(ErrorCode::invalid, "the layout has a protection that is unknown");
    }
    layout.groups.push_back({static_cast<Protection>(protection), in.get<std::uint64_t>()});
  }
  for (std::size_t i = 0; i < members && in.ok(); ++i) {
    Member member;
    member.disk = get_disk(in);
    member.group = in.get<std::uint16_t>();
    const auto parity = in.get<std::uint8_t>();
    member.parity = parity == 1;
    member.role = in.get<std::uint8_t>();
    const auto state = in.get<std::uint8_t>();
    const auto kept_out = in.get<std::uint8_t>();
    member.kept_out = kept_out == 1;
    const auto none = in.get<std::uint16_t>();
    member.rebuilt = in.get<std::uint64_t>();
    if (parity > 1 || kept_out > 1 || none != 0 ||
        state > static_cast<std::uint8_t>(MemberState::rebuilding)) {
      return fail(ErrorCode::invalid, member_name(i) + " has an unknown kind or state");
    }
    member.state = static_cast<MemberState>(state);
    layout.members.push_back(member);
  }
  for (std::size_t i = 0; i < spares && in.ok(); ++i) layout.spares.push_back(get_disk(in));
  const auto joining = in.get<std::uint64_t>();
  if (joining > max_joining) return fail(ErrorCode::invalid, "too many disks join");
  for (std::uint64_t i = 0; i < joining && in.ok(); ++i) {
    const DiskId disk = get_disk(in);
    const auto group = in.get<std::uint64_t>();
    if (group >= groups) {
      return fail(ErrorCode::invalid, "a disk joins a group that does not exist");
    }
    layout.joining.push_back({disk, static_cast<std::uint16_t>(group)});
  }
  if (!in.ok()) return fail(ErrorCode::invalid, "the layout ends too early");
  if (auto status = check(layout); !status) return std::unexpected(status.error());
  return layout;
}

}  // namespace duet::raid
