// What the operations should do, said as simply as can be: a tree of maps. For the model test.
#pragma once

#include <algorithm>
#include <map>
#include <string>

#include "files/attributes.h"
#include "files/directory_block.h"
#include "files/operations.h"
#include "files/record.h"

namespace duet::files {

class Reference {
 public:
  struct Node {
    FileType type = FileType::none;
    std::uint16_t mode = 0;
    std::uint32_t owner = 0;
    std::uint32_t group = 0;
    std::string data;  // contents, or the target of a symlink
    std::uint64_t device = 0;
    std::map<std::string, std::uint64_t> children;
    std::uint64_t parent = 0;
    std::uint64_t names = 0;  // of anything but a directory
    std::map<std::string, std::string> attributes;
    std::int64_t accessed = 0, modified = 0, changed = 0, created = 0;
    std::uint64_t changes = 1;
  };

  Reference() {
    Node& root = nodes[2];
    root.type = FileType::directory;
    root.mode = 0040755;
    root.parent = 2;
    root.accessed = root.modified = root.changed = root.created = 1;
  }

  std::map<std::uint64_t, Node> nodes;
  std::uint64_t next = 3;
  std::int64_t now = 0;

  std::uint64_t links(std::uint64_t of) const {
    const Node& node = nodes.at(of);
    if (node.type != FileType::directory) return node.names;
    std::uint64_t links = 2;
    for (const auto& [name, child] : node.children) {
      if (nodes.at(child).type == FileType::directory) ++links;
    }
    return links;
  }

  // The number of what was made, found or removed goes to `number`.
  Outcome run(const Request& request, std::int64_t time) {
    now = time;
    return std::visit([this](const auto& r) { return apply(r); }, request);
  }
  std::uint64_t number = 0;
  std::uint64_t inodes_of_attributes = 0;

 private:
  Node* find(FileKey file) {
    auto found = nodes.find(file.inode.value());
    number = file.inode.value();
    return found == nodes.end() ? nullptr : &found->second;
  }
  void touch(Node& node) {
    node.changed = now;
    ++node.changes;
  }
  void touch_contents(Node& node) {
    node.modified = now;
    touch(node);
  }
  Outcome directory(FileKey file, Node*& node, const std::string& name, Outcome dots) {
    node = find(file);
    if (!node) return Outcome::stale;
    if (node->type != FileType::directory) return Outcome::not_directory;
    if (name == "." || name == "..") return dots;
    return name.find('/') != std::string::npos ? Outcome::invalid : Outcome::ok;
  }
  Outcome make(FileKey where, const std::string& name, FileType type, const NewFile& file,
               std::uint16_t bits, Node** made = nullptr) {
    Node* parent = nullptr;
    if (auto bad = directory(where, parent, name, Outcome::exists); bad != Outcome::ok) return bad;
    if (parent->children.contains(name)) return Outcome::exists;
    touch_contents(*parent);
    number = next++;
    parent->children[name] = number;
    Node& node = nodes[number];
    node.type = type;
    node.mode = static_cast<std::uint16_t>(bits | (file.mode & 07777));
    node.owner = file.owner;
    node.group = file.group;
    node.accessed = node.modified = node.changed = node.created = now;
    node.names = 1;
    if (type == FileType::directory) node.parent = where.inode.value();
    if (made) *made = &node;
    return Outcome::ok;
  }
  void drop(std::uint64_t victim) {
    Node& node = nodes.at(victim);
    if (node.type != FileType::directory && node.names > 1) {
      --node.names;
      touch(node);
    } else {
      if (!node.attributes.empty()) --inodes_of_attributes;
      nodes.erase(victim);
    }
  }

  Outcome apply(const Create& r) {
    Node* parent = nullptr;
    if (auto bad = directory(r.directory, parent, r.name, Outcome::exists); bad != Outcome::ok) {
      return bad;
    }
    if (auto found = parent->children.find(r.name); found != parent->children.end()) {
      number = found->second;
      Node& node = nodes.at(number);
      if (r.how == CreateMode::guarded) return Outcome::exists;
      if (r.how == CreateMode::exclusive) {
        const bool mine = node.type == FileType::regular && node.device == r.verifier;
        return mine ? Outcome::ok : Outcome::exists;
      }
      if (node.type == FileType::directory) return Outcome::is_directory;
      if (node.type != FileType::regular) return Outcome::exists;
      if (r.size) {
        node.data.resize(*r.size);
        touch_contents(node);
      }
      return Outcome::ok;
    }
    Node* node = nullptr;
    Outcome made = make(r.directory, r.name, FileType::regular, r.file, 0100000, &node);
    node->device = r.verifier;
    node->data.resize(r.size.value_or(0));
    return made;
  }
  Outcome apply(const MakeDirectory& r) {
    return make(r.directory, r.name, FileType::directory, r.file, 0040000);
  }
  Outcome apply(const MakeSymlink& r) {
    Node* node = nullptr;
    Outcome made = make(r.directory, r.name, FileType::symlink, r.file, 0120000, &node);
    if (node) node->data = r.target;
    return made;
  }
  Outcome apply(const MakeSpecial& r) {
    Node* node = nullptr;
    Outcome made = make(r.directory, r.name, FileType::special, r.file,
                        static_cast<std::uint16_t>(r.file.mode & ~07777), &node);
    if (node) node->device = r.device;
    return made;
  }
  Outcome apply(const Link& r) {
    Node* node = find(r.file);
    if (!node) return Outcome::stale;
    if (node->type == FileType::directory) return Outcome::is_directory;
    Node* parent = nullptr;
    if (auto bad = directory(r.directory, parent, r.name, Outcome::exists); bad != Outcome::ok) {
      return bad;
    }
    if (parent->children.contains(r.name)) return Outcome::exists;
    parent->children[r.name] = r.file.inode.value();
    touch_contents(*parent);
    ++node->names;
    touch(*node);
    number = r.file.inode.value();
    return Outcome::ok;
  }
  Outcome apply(const Remove& r) {
    Node* parent = nullptr;
    if (auto bad = directory(r.directory, parent, r.name, Outcome::invalid); bad != Outcome::ok) {
      return bad;
    }
    auto found = parent->children.find(r.name);
    if (found == parent->children.end()) return Outcome::no_entry;
    number = found->second;
    Node& node = nodes.at(number);
    if (node.type == FileType::directory) {
      if (r.what == RemoveWhat::file) return Outcome::is_directory;
      if (!node.children.empty()) return Outcome::not_empty;
    } else if (r.what == RemoveWhat::directory) {
      return Outcome::not_directory;
    }
    parent->children.erase(found);
    touch_contents(*parent);
    drop(number);
    return Outcome::ok;
  }
  Outcome apply(const Rename& r) {
    Node* from = nullptr;
    Node* to = nullptr;
    Outcome bad = directory(r.directory, from, r.name, Outcome::invalid);
    if (bad != Outcome::ok) return bad;
    auto old = from->children.find(r.name);
    if (old == from->children.end()) return Outcome::no_entry;
    bad = directory(r.to_directory, to, r.to_name, Outcome::invalid);
    if (bad != Outcome::ok) return bad;
    const std::uint64_t moved = old->second;
    number = moved;
    auto target = to->children.find(r.to_name);
    if (target != to->children.end() && target->second == moved) return Outcome::ok;
    Node& node = nodes.at(moved);
    const bool is_directory = node.type == FileType::directory;
    if (is_directory) {
      for (std::uint64_t above = r.to_directory.inode.value();; above = nodes.at(above).parent) {
        if (above == moved) return Outcome::invalid;
        if (above == 2) break;
      }
    }
    if (target != to->children.end()) {
      const Node& victim = nodes.at(target->second);
      if (is_directory && victim.type != FileType::directory) return Outcome::not_directory;
      if (!is_directory && victim.type == FileType::directory) return Outcome::is_directory;
      if (is_directory && !victim.children.empty()) return Outcome::not_empty;
      drop(target->second);
    }
    from->children.erase(r.name);
    to->children[r.to_name] = moved;
    touch_contents(*from);
    touch_contents(*to);
    touch(node);
    if (is_directory) node.parent = r.to_directory.inode.value();
    return Outcome::ok;
  }
  Outcome data(FileKey file, Node*& node) {
    node = find(file);
    if (!node) return Outcome::stale;
    if (node->type == FileType::directory) return Outcome::is_directory;
    return node->type == FileType::regular || node->type == FileType::vdisk ? Outcome::ok
                                                                            : Outcome::invalid;
  }
  Outcome apply(const SetInode& r) {
    Node* node = find(r.file);
    if (!node) return Outcome::stale;
    if (r.guard && *r.guard != node->changed) return Outcome::not_sync;
    if (r.size) {
      if (auto bad = data(r.file, node); bad != Outcome::ok) return bad;
      if (node->type == FileType::vdisk) return Outcome::invalid;
      node->data.resize(*r.size);
      node->modified = now;
    }
    if (r.mode) node->mode = static_cast<std::uint16_t>((node->mode & 0170000) | *r.mode);
    if (r.owner) node->owner = *r.owner;
    if (r.group) node->group = *r.group;
    if (r.accessed) node->accessed = *r.accessed;
    if (r.modified) node->modified = *r.modified;
    if (r.size || r.mode || r.owner || r.group || r.accessed || r.modified) touch(*node);
    return Outcome::ok;
  }
  Outcome apply(const Write& r) {
    Node* node = nullptr;
    if (auto bad = data(r.file, node); bad != Outcome::ok) return bad;
    std::string text;
    for (const Slice& slice : r.data) {
      text.append(reinterpret_cast<const char*>(slice.bytes.data()), slice.bytes.size());
    }
    const std::uint64_t end = r.offset + text.size();
    if (node->type == FileType::vdisk && end > node->data.size()) return Outcome::invalid;
    if (node->data.size() < end) node->data.resize(end);
    node->data.replace(r.offset, text.size(), text);
    touch_contents(*node);
    return Outcome::ok;
  }
  Outcome apply(const Zero& r) {
    Node* node = nullptr;
    if (auto bad = data(r.file, node); bad != Outcome::ok) return bad;
    for (std::uint64_t i = r.offset; i < std::min(r.offset + r.length, node->data.size()); ++i) {
      node->data[i] = '\0';
    }
    touch_contents(*node);
    return Outcome::ok;
  }
  Outcome apply(const SetAttribute& r) {
    Node* node = find(r.file);
    if (!valid_name(r.name)) return Outcome::invalid;
    if (!node) return Outcome::stale;
    const bool there = node->attributes.contains(r.name);
    if (there && r.how == SetMode::create) return Outcome::exists;
    if (!there && r.how == SetMode::replace) return Outcome::no_entry;
    if (!there && node->attributes.size() == max_attributes) return Outcome::no_space;
    if (node->attributes.empty()) {
      ++inodes_of_attributes;
      ++next;
    }
    node->attributes[r.name] = {reinterpret_cast<const char*>(r.value.bytes.data()),
                                r.value.bytes.size()};
    touch(*node);
    return Outcome::ok;
  }
  Outcome apply(const RemoveAttribute& r) {
    Node* node = find(r.file);
    if (!valid_name(r.name)) return Outcome::invalid;
    if (!node) return Outcome::stale;
    if (node->attributes.erase(r.name) == 0) return Outcome::no_entry;
    if (node->attributes.empty()) --inodes_of_attributes;
    touch(*node);
    return Outcome::ok;
  }
  Outcome apply(const CreateVdisk& r) {
    Node* node = nullptr;
    if (r.directory == filesystem::no_inode) {
      number = next++;
      node = &nodes[number];
      node->type = FileType::vdisk;
      node->mode = static_cast<std::uint16_t>(0100000 | r.file.mode);
      node->owner = r.file.owner;
      node->group = r.file.group;
      node->accessed = node->modified = node->changed = node->created = now;
      node->names = 1;
    } else {
      Outcome made = make({r.volume, r.directory}, r.name, FileType::vdisk, r.file, 0100000, &node);
      if (made != Outcome::ok) return made;
      node->names = 2;
    }
    node->device = 1;
    node->data.resize(r.size);
    return Outcome::ok;
  }
  Outcome apply(const DeleteVdisk& r) {
    Node* node = find(r.file);
    if (!node) return Outcome::stale;
    if (node->type != FileType::vdisk) return Outcome::invalid;
    if (node->device != 1) return Outcome::stale;
    node->device = 0;
    drop(r.file.inode.value());
    return Outcome::ok;
  }
  Outcome apply(const ResizeVdisk& r) {
    Node* node = find(r.file);
    if (!node) return Outcome::stale;
    if (node->type != FileType::vdisk) return Outcome::invalid;
    node->data.resize(r.size);
    touch_contents(*node);
    return Outcome::ok;
  }
};

}  // namespace duet::files
