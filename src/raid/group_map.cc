#include "raid/group_map.h"

namespace duet::raid {

std::uint32_t column_of(const Member& member, const Geometry& geometry) {
  return member.parity ? geometry.data + member.role : member.role;
}

std::vector<Columns> map_groups(const Layout& layout) {
  std::vector<GroupColumns> groups(layout.groups.size());
  for (std::size_t i = 0; i < groups.size(); ++i) {
    groups[i].geometry.parity = parity_count(layout.groups[i].protection);
    groups[i].blocks = layout.groups[i].blocks;
  }
  for (const Member& member : layout.members) {
    if (!member.parity) ++groups[member.group].geometry.data;
  }
  for (GroupColumns& group : groups) group.members.resize(group.geometry.columns());
  for (std::uint32_t number = 0; number < layout.members.size(); ++number) {
    const Member& member = layout.members[number];
    GroupColumns& group = groups[member.group];
    group.members[column_of(member, group.geometry)] = number;
  }
  std::vector<Columns> result;
  for (GroupColumns& group : groups) {
    result.push_back(std::make_shared<const GroupColumns>(std::move(group)));
  }
  return result;
}

}  // namespace duet::raid
