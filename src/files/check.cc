#include "files/check.h"

#include <algorithm>

#include "files/directory_tree.h"
#include "files/name_hash.h"
#include "files/names.h"
#include "files/operations.h"

namespace duet::files {
namespace {

bool is_busy(const Failure& failure) {
  return failure.outcome == Outcome::busy;
}
std::string quoted(std::string_view name) {
  return "\"" + std::string(name) + "\"";
}

}  // namespace

void CheckReport::add(FileKey file, std::string what) {
  ++found;
  if (findings.size() < max_findings) findings.push_back({file, std::move(what)});
}

Attempt<bool> DirectoryCheck::step(filesystem::View& view, CheckReport& report) {
  Draft draft(view);
  auto inode = draft.inode(file_);
  if (!inode) {
    if (is_busy(inode.error())) return std::unexpected(inode.error());
    report.add(file_, inode.error().message);
    return true;
  }
  const bool directory = (*inode)->type == FileType::directory;
  const std::uint64_t blocks = directory ? (*inode)->size / block_size : (*inode)->device;
  if (block_ < blocks) return check_block(draft, report);
  return check_names(draft, **inode, report);
}

Attempt<bool> DirectoryCheck::check_block(Draft& draft, CheckReport& report) {
  auto good = DirectoryTree(draft, file_).check(static_cast<std::uint32_t>(block_));
  if (!good) {
    if (is_busy(good.error())) return std::unexpected(good.error());
    report.add(file_, "block " + std::to_string(block_) + ": " + good.error().message);
    // A size that cannot be is said once.
    if (block_ == 0) return true;
  }
  ++block_;
  return false;
}

Attempt<bool> DirectoryCheck::check_names(Draft& draft, const Inode& inode, CheckReport& report) {
  auto leaf = DirectoryTree(draft, file_).leaf(key_);
  if (!leaf) {
    if (is_busy(leaf.error())) return std::unexpected(leaf.error());
    report.add(file_, leaf.error().message);
    return true;
  }
  const std::size_t end = leaf->bytes.empty() ? leaf->offset : end_of_entries(leaf->bytes);
  const bool directory = inode.type == FileType::directory;
  // First everything that may be missing, then what counts.
  std::optional<Failure> failure;
  for (std::size_t at = leaf->offset; directory && at < end; at = next_entry(leaf->bytes, at)) {
    const FileKey target{file_.volume, InodeNumber(entry_at(leaf->bytes, at).value)};
    if (auto look = draft.inode(target); !look && is_busy(look.error())) failure = look.error();
  }
  if (failure) return std::unexpected(*failure);
  for (std::size_t at = leaf->offset; at < end; at = next_entry(leaf->bytes, at)) {
    const Entry entry = entry_at(leaf->bytes, at);
    check_entry(entry, report);
    if (directory) {
      auto target = check_target(draft, entry, report);
      if (!target) return std::unexpected(target.error());
    } else if (auto place = decode_value_place(entry.value); !place || slots_[place->slot]) {
      report.add(file_, "place of the value of " + quoted(entry.name));
    } else {
      slots_[place->slot] = true;
    }
  }
  key_ = leaf->high;
  if (key_ != no_upper_bound) return false;
  finish(inode, report);
  return true;
}

void DirectoryCheck::check_entry(const Entry& entry, CheckReport& report) {
  ++names_;
  ++report.names;
  const std::uint64_t hash = entry.key >> ordinal_bits;
  if (hash != name_hash(file_.inode, entry.name)) {
    report.add(file_, "the name " + quoted(entry.name) + " is not where its hash says");
  }
  if (hash_ != hash) of_one_hash_.clear();
  hash_ = hash;
  if (std::ranges::find(of_one_hash_, entry.name) != of_one_hash_.end()) {
    report.add(file_, "the name " + quoted(entry.name) + " is there twice");
  }
  of_one_hash_.emplace_back(entry.name);
}

Attempt<void> DirectoryCheck::check_target(Draft& draft, const Entry& entry, CheckReport& report) {
  const InodeNumber number(entry.value);
  auto target = look_file(draft, {file_.volume, number});
  if (!target) {
    if (is_busy(target.error())) return std::unexpected(target.error());
    report.add(file_, "the name " + quoted(entry.name) + " leads to inode " +
                          std::to_string(entry.value) + ", which is no file");
    return {};
  }
  if ((*target)->type != entry.type) {
    report.add(file_, "the type of " + quoted(entry.name));
  }
  if ((*target)->type == FileType::directory) {
    ++directories_;
    if ((*target)->parent != file_.inode) {
      report.add({file_.volume, number}, "its directory is not the one that names it");
    }
  }
  if (named_) named_(number, (*target)->type);
  return {};
}

void DirectoryCheck::finish(const Inode& inode, CheckReport& report) {
  auto differs = [&](const char* what, std::uint64_t says, std::uint64_t has) {
    if (says == has) return;
    report.add(file_, std::string(what) + ": says " + std::to_string(says) + ", has " +
                          std::to_string(has));
  };
  differs("entries", inode.entries, names_);
  if (inode.type != FileType::directory) return;
  differs("links of a directory", inode.links, 2 + directories_);
  if (names_ == 0 && inode.size != 0) report.add(file_, "blocks of an empty directory");
}

Attempt<void> check_directory(filesystem::View& view, FileKey directory, CheckReport& report) {
  DirectoryCheck check(directory);
  for (;;) {
    auto done = check.step(view, report);
    if (!done) return std::unexpected(done.error());
    if (*done) return {};
  }
}

Attempt<bool> VolumeCheck::step(filesystem::View& view, CheckReport& report) {
  switch (phase_) {
    case Phase::start: {
      auto end = view.next_inode(volume_);
      if (!end) return refuse(end.error());
      end_ = end->value();
      names_.assign(std::min(max_counted_, end_ - first_), 0);
      at_ = 1;
      phase_ = Phase::walk;
      return false;
    }
    case Phase::walk:
      return walk(view, report);
    case Phase::count:
      return compare(view, report);
  }
  return true;
}

// Every inode, and inside it if it is a directory or extended attributes.
Attempt<bool> VolumeCheck::walk(filesystem::View& view, CheckReport& report) {
  CheckReport ignored;  // what a later pass finds has been said
  CheckReport& to = first_pass() ? report : ignored;
  if (inside_) {
    auto done = inside_->step(view, to);
    if (!done || !*done) return done;
    inside_.reset();
    ++at_;
    return false;
  }
  if (at_ >= end_) {
    at_ = std::max<std::uint64_t>(first_, 1);
    phase_ = Phase::count;
    return false;
  }
  Draft draft(view);
  auto inode = draft.inode(current());
  if (!inode) {
    if (is_busy(inode.error())) return std::unexpected(inode.error());
    if (inode.error().outcome != Outcome::stale) to.add(current(), inode.error().message);
    ++at_;
    return false;
  }
  auto good = check_inode(draft, current(), **inode, to);
  if (!good) return std::unexpected(good.error());
  ++to.inodes;
  const FileType type = (*inode)->type;
  if (type == FileType::directory) ++to.directories;
  if (type != FileType::directory && type != FileType::attributes) {
    ++at_;
    return false;
  }
  inside_.emplace(current(), [this](InodeNumber number, FileType) {
    const std::uint64_t index = number.value() - first_;
    if (number.value() >= first_ && index < names_.size()) ++names_[index];
  });
  return false;
}

// An inode and its extended attributes name each other.
Attempt<void> VolumeCheck::check_inode(Draft& draft, FileKey file, const Inode& inode,
                                       CheckReport& report) {
  const bool is_attributes = inode.type == FileType::attributes;
  const InodeNumber other = is_attributes ? inode.parent : inode.attributes;
  if (other == filesystem::no_inode && !is_attributes) return {};
  auto beside = draft.inode({file.volume, other});
  if (!beside && is_busy(beside.error())) return std::unexpected(beside.error());
  const bool good = beside && (is_attributes ? (*beside)->attributes == file.inode
                                             : (*beside)->type == FileType::attributes &&
                                                   (*beside)->parent == file.inode);
  if (!good) {
    report.add(file, is_attributes ? "extended attributes of no file" : "its extended attributes");
  }
  return {};
}

// Links of the inodes that were counted, and the way of the directories among them to the root.
Attempt<bool> VolumeCheck::compare(filesystem::View& view, CheckReport& report) {
  Draft draft(view);
  if (climbed_to_) {
    auto done = climb(draft, report);
    if (!done) return done;
    if (!*done) return false;
    climbed_to_.reset();
    ++at_;
    return false;
  }
  if (at_ >= end_ || at_ >= first_ + names_.size()) {
    first_ += names_.size();
    phase_ = Phase::start;
    return first_ >= end_;
  }
  auto inode = draft.inode(current());
  if (!inode) {
    if (is_busy(inode.error())) return std::unexpected(inode.error());
    ++at_;
    return false;
  }
  check_links(current(), **inode, report);
  if ((*inode)->type == FileType::directory) {
    climbed_to_ = current().inode;
    climbed_ = 0;
  } else {
    ++at_;
  }
  return false;
}

void VolumeCheck::check_links(FileKey file, const Inode& inode, CheckReport& report) const {
  if (inode.type == FileType::attributes || inode.type == FileType::system) return;
  const std::uint64_t names = names_[file.inode.value() - first_];
  if (inode.type == FileType::directory) {
    const std::uint64_t right = file.inode == filesystem::root_directory ? 0 : 1;
    if (names != right) {
      report.add(file, "a directory with " + std::to_string(names) + " names");
    }
    return;
  }
  const bool held = inode.type == FileType::vdisk && inode.device == vdisk_held;
  if (inode.links != names + (held ? 1 : 0)) {
    report.add(file, "links: says " + std::to_string(inode.links) + ", has " +
                         std::to_string(names) + " names");
  } else if (inode.links == 0) {
    report.add(file, "no name leads to it");
  }
}

// A part of the way up in each step; true at its end.
Attempt<bool> VolumeCheck::climb(Draft& draft, CheckReport& report) {
  constexpr int part = 64;
  InodeNumber number = *climbed_to_;
  for (int i = 0; i < part; ++i) {
    if (number == filesystem::root_directory) return true;
    auto inode = draft.inode({volume_, number});
    if (!inode && is_busy(inode.error())) return std::unexpected(inode.error());
    if (!inode || (*inode)->type != FileType::directory ||
        climbed_ + static_cast<std::uint64_t>(i) >= end_) {
      report.add(current(), "no way from it to the root");
      return true;
    }
    number = (*inode)->parent;
  }
  climbed_to_ = number;
  climbed_ += part;
  return false;
}

}  // namespace duet::files
