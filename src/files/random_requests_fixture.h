// Random requests about a volume that a Reference describes, for model tests: mostly such that make
// sense.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <random>
#include <string>

#include "files/reference_fixture.h"

namespace duet::files {

class RandomRequests {
 public:
  std::mt19937_64 random{2026};
  std::int64_t now = 100;
  Reference reference;
  VolumeId volume{1};

  FileKey root() const { return {volume, filesystem::root_directory}; }

  std::uint64_t pick(std::uint64_t n) { return random() % n; }
  bool one_in(std::uint64_t n) { return pick(n) == 0; }

  FileKey some_file() {
    if (one_in(30)) return {volume, InodeNumber(pick(reference.next + 2))};  // gone, perhaps
    auto node = reference.nodes.lower_bound(pick(reference.next));
    if (node == reference.nodes.end()) node = reference.nodes.begin();
    return {volume, InodeNumber(node->first)};
  }
  FileKey some_directory() {
    for (int i = 0; i < 6; ++i) {
      FileKey file = some_file();
      auto node = reference.nodes.find(file.inode.value());
      if (node != reference.nodes.end() && node->second.type == FileType::directory) return file;
    }
    return one_in(8) ? some_file() : root();
  }
  std::string some_name() {
    if (one_in(100)) return one_in(2) ? "." : "..";
    if (one_in(200)) return "a/b";
    std::string name(1, static_cast<char>('a' + pick(20)));
    return one_in(3) ? name + std::string(200 + pick(50), 'n') : name;
  }
  // One that exists in the directory, often.
  std::string some_name_of(FileKey directory) {
    auto node = reference.nodes.find(directory.inode.value());
    if (node == reference.nodes.end() || node->second.children.empty() || one_in(5)) {
      return some_name();
    }
    auto child = node->second.children.lower_bound(some_name());
    if (child == node->second.children.end()) child = node->second.children.begin();
    return child->first;
  }
  NewFile new_file() {
    return {static_cast<std::uint16_t>(pick(010000)), static_cast<std::uint32_t>(pick(5)),
            static_cast<std::uint32_t>(pick(5))};
  }
  Slice some_bytes(std::size_t length) {
    OwnedBuffer buffer = make_buffer(length);
    for (std::byte& b : buffer.bytes) b = static_cast<std::byte>(random());
    return buffer.slice();
  }
  template <class T>
  std::optional<T> maybe(T value) {
    return one_in(2) ? std::optional<T>(value) : std::nullopt;
  }

  Request some_request() {
    // More is removed the more there is.
    const bool crowded = reference.nodes.size() > 40 + pick(160);
    FileKey d = some_directory();
    switch (crowded ? 5 + pick(4) : pick(26)) {
      case 0: {
        Create create{d, some_name(), new_file(), CreateMode(pick(3)), 0, {}};
        if (create.how == CreateMode::exclusive) create.verifier = 1 + pick(2);
        if (one_in(3)) create.size = pick(9000);
        return create;
      }
      case 1:
      case 2:
        return MakeDirectory{d, some_name(), new_file()};
      case 3:
        return MakeSymlink{d, some_name(), new_file(), std::string(1 + pick(200), 't')};
      case 4: {
        NewFile file = new_file();
        file.mode = static_cast<std::uint16_t>(file.mode | (one_in(2) ? 0020000 : 0140000));
        return MakeSpecial{d, some_name(), file, pick(100)};
      }
      case 5:
      case 6:
        return Remove{d, some_name_of(d), RemoveWhat(pick(3))};
      case 7:
      case 8: {
        FileKey to = one_in(3) ? d : some_directory();
        return Rename{d, some_name_of(d), to, one_in(2) ? some_name_of(to) : some_name()};
      }
      case 9:
        return Rename{d, some_name_of(d), some_directory(), some_name()};
      case 10:
        return Link{some_file(), d, some_name()};
      case 11:
      case 12: {
        SetInode set{some_file(),
                     maybe<std::uint16_t>(07777 & random()),
                     maybe(7u),
                     maybe(8u),
                     {},
                     maybe<std::int64_t>(-5),
                     maybe<std::int64_t>(6),
                     {}};
        if (one_in(3)) set.size = pick(20'000);
        if (one_in(5)) {
          auto node = reference.nodes.find(set.file.inode.value());
          const std::int64_t changed = node == reference.nodes.end() ? 0 : node->second.changed;
          set.guard = changed + static_cast<std::int64_t>(pick(2));
        }
        return set;
      }
      case 13:
      case 14:
      case 15:
      case 16: {
        Write write{some_file(), pick(16'000), {some_bytes(1 + pick(one_in(3) ? 6000 : 300))}};
        if (one_in(4)) write.data.push_back(some_bytes(pick(700)));
        return write;
      }
      case 17:
        return Zero{some_file(), pick(16'000), 1 + pick(9000)};
      case 18:
      case 19:
      case 20:
        return SetAttribute{some_file(), some_name(), SetMode(pick(3)),
                            some_bytes(pick(one_in(20) ? max_value : 700))};
      case 21:
      case 22:
        return RemoveAttribute{some_file(), some_name()};
      case 23:
        if (one_in(2)) return CreateVdisk{volume, 4096 * (1 + pick(3)), new_file(), {}, ""};
        return CreateVdisk{volume, 4096 * (1 + pick(3)), new_file(), d.inode, some_name()};
      case 24:
        return DeleteVdisk{some_vdisk()};
      default:
        return ResizeVdisk{some_vdisk(), 4096 * (1 + pick(3))};
    }
  }
  FileKey some_vdisk() {
    for (int i = 0; i < 20; ++i) {
      FileKey file = some_file();
      auto node = reference.nodes.find(file.inode.value());
      if (node != reference.nodes.end() && node->second.type == FileType::vdisk) return file;
    }
    return some_file();
  }

  void compare_inode(const Inode& inode, std::uint64_t number) {
    const Reference::Node& node = reference.nodes.at(number);
    ASSERT_EQ(inode.type, node.type);
    ASSERT_EQ(inode.mode, node.mode);
    ASSERT_EQ(inode.owner, node.owner);
    ASSERT_EQ(inode.group, node.group);
    ASSERT_EQ(inode.links, reference.links(number));
    ASSERT_EQ(inode.entries, node.children.size());
    ASSERT_EQ(inode.device, node.device);
    ASSERT_EQ(inode.parent.value(), node.parent);
    if (node.type != FileType::directory) ASSERT_EQ(inode.size, node.data.size());
    ASSERT_EQ(inode.accessed, node.accessed);
    ASSERT_EQ(inode.modified, node.modified);
    ASSERT_EQ(inode.changed, node.changed);
    ASSERT_EQ(inode.created, node.created);
    ASSERT_EQ(inode.change_count, node.changes);
    ASSERT_EQ(inode.attributes == filesystem::no_inode, node.attributes.empty());
  }
};

}  // namespace duet::files
