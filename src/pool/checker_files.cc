// The checker's view of the files of live volumes: LUNs, directories, link counts.
#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "files/operations.h"
#include "pool/checker_impl.h"

namespace duet::pool {

// Files as the superblock has them, to look at only.
struct Checker::Impl::ImageView final : filesystem::View {
  explicit ImageView(Impl& checker) : impl(checker) {}

  Slice cached(const BlockPointer& pointer) {
    if (auto pinned = pins.find(pointer.address.value); pinned != pins.end()) return pinned->second;
    return cache.find(pointer.address);
  }
  std::unexpected<Error> miss(const BlockPointer& pointer) {
    missing.push_back(pointer);
    return fail(ErrorCode::busy, "not in memory");
  }
  // Stops at `level` levels above the data.
  Result<BlockPointer> resolve(const TreeRoot& root, std::uint64_t number) {
    if (levels_for(number) > root.levels) return BlockPointer{};
    BlockPointer pointer = root.pointer;
    for (std::uint8_t level = root.levels; level > 0 && !pointer.hole(); --level) {
      if (!impl.shape_.valid(pointer.address)) break;
      const Slice node = cached(pointer);
      if (node.bytes.empty()) return miss(pointer);
      const std::uint64_t slot = number >> 8 * (level - 1) & 0xff;
      pointer = filesystem::load_pointer(&node.bytes[slot * filesystem::pointer_size]);
    }
    if (!pointer.hole() && !impl.shape_.valid(pointer.address)) {
      return fail(ErrorCode::io_error, "a block lies outside of the pool");
    }
    return pointer;
  }
  Result<Inode> inode(FileKey file) override {
    auto volume = impl.volumes_.find(file.volume);
    if (volume == impl.volumes_.end()) return fail(ErrorCode::not_found, "no such volume");
    const Inode& inodes = volume->second.inodes;
    auto pointer =
        resolve({inodes.root, inodes.levels}, file.inode.value() / filesystem::inodes_per_block);
    if (!pointer) return std::unexpected(pointer.error());
    if (pointer->hole()) return fail(ErrorCode::not_found, "a free inode");
    const Slice block = cached(*pointer);
    if (block.bytes.empty()) return miss(*pointer);
    auto found = filesystem::decode_inode(block.bytes.subspan(
        file.inode.value() % filesystem::inodes_per_block * filesystem::inode_size,
        filesystem::inode_size));
    if (!found) return fail(ErrorCode::io_error, found.error().message);
    if (found->type == filesystem::FileType::none) {
      return fail(ErrorCode::not_found, "a free inode");
    }
    return found;
  }
  Result<Bytes> block(FileKey file, std::uint64_t number) override {
    auto found = inode(file);
    if (!found) return std::unexpected(found.error());
    auto pointer = resolve({found->root, found->levels}, number);
    if (!pointer) return std::unexpected(pointer.error());
    if (pointer->hole()) return zero_block().bytes;
    const Slice bytes = cached(*pointer);
    if (bytes.bytes.empty()) return miss(*pointer);
    pins[pointer->address.value] = bytes;  // shown
    return bytes.bytes;
  }
  Result<std::uint64_t> next_block(FileKey file, std::uint64_t from) override {
    auto found = inode(file);
    if (!found) return std::unexpected(found.error());
    const std::uint64_t end = std::uint64_t{1} << 8 * found->levels;
    while (from < end) {
      BlockPointer pointer = found->root;
      std::uint8_t level = found->levels;
      for (; level > 0 && !pointer.hole(); --level) {
        if (!impl.shape_.valid(pointer.address)) {
          return fail(ErrorCode::io_error, "a block lies outside of the pool");
        }
        const Slice node = cached(pointer);
        if (node.bytes.empty()) return miss(pointer);
        const std::uint64_t slot = from >> 8 * (level - 1) & 0xff;
        pointer = filesystem::load_pointer(&node.bytes[slot * filesystem::pointer_size]);
      }
      if (!pointer.hole()) return from;
      from = ((from >> 8 * level) + 1) << 8 * level;
    }
    return filesystem::max_file_blocks;
  }
  Status space(VolumeId, std::uint64_t) override { return refused(); }
  Result<InodeNumber> next_inode(VolumeId) override { return refused(); }
  InodeNumber allocate_inode(VolumeId) override { ASSERT(false); }
  void set_inode(FileKey, const Inode&) override { ASSERT(false); }
  MutableBytes change_block(FileKey, std::uint64_t) override { ASSERT(false); }
  void write(FileKey, std::uint64_t, const std::vector<Slice>&) override { ASSERT(false); }
  void zero(FileKey, std::uint64_t, std::uint64_t) override { ASSERT(false); }
  static std::unexpected<Error> refused() {
    return fail(ErrorCode::refused, "a check changes nothing");
  }

  Impl& impl;
  BlockCache cache{4 << 20};
  Pool::Pins pins;
  std::vector<BlockPointer> missing;
};

void Checker::Impl::check_files() {
  for (const auto& [id, v] : volumes_) {
    if (v.kind == VolumeKind::volume) live_left_.push_back(id);
  }
  view_ = std::make_shared<ImageView>(*this);
  next_live_volume();
}

// What inodes there are in the next live volume.
void Checker::Impl::next_live_volume() {
  if (live_left_.empty()) return check_luns();
  live_ = live_left_.back();
  live_left_.pop_back();
  seen_.clear();
  const Volume& volume = volumes_.at(live_);
  Item root;
  root.kind = Kind::inode_file;
  root.volume = live_;
  root.b = volume.inodes.root;
  root.b_level = volume.inodes.levels;
  Walk how;
  how.look = true;
  how.visit = [this](const Item& item, Bytes block) { look_at_inodes(item.index, block); };
  walk(root, std::move(how), [this] {
    if (!options_.read_directory) return next_live_volume();
    for (const auto& [number, inodes] : seen_) {
      for (std::uint64_t i = 0; i < inodes.size(); ++i) {
        if (inodes[i].type != filesystem::FileType::directory) continue;
        directories_.push_back({live_, InodeNumber(number * filesystem::inodes_per_block + i)});
      }
    }
    next_directory();
  });
}

void Checker::Impl::look_at_inodes(std::uint64_t number, Bytes block) {
  auto& inodes = seen_[number];
  for (std::uint64_t i = 0; i < filesystem::inodes_per_block; ++i) {
    auto inode =
        filesystem::decode_inode(block.subspan(i * filesystem::inode_size, filesystem::inode_size));
    if (!inode || inode->type == filesystem::FileType::none) continue;  // told already
    const InodeNumber file(number * filesystem::inodes_per_block + i);
    ++report_.files;
    if (file.value() >= volumes_.at(live_).next_inode) {
      problem(text_of(file) + " has a number that was not given");
    }
    inodes[i].type = inode->type;
    inodes[i].links = inode->links;
    inodes[i].entries = inode->entries;
    inodes[i].held =
        inode->type == filesystem::FileType::vdisk && inode->device == files::vdisk_held;
    if (inode->attributes != no_inode) {
      attributes_.emplace_back(file, inode->attributes);
    }
    for (const auto& [lun, entry] : luns_) {
      if (entry.file != FileKey{live_, file}) continue;
      inodes[i].held = true;
      luns_found_.insert(lun);
      if (inode->type != filesystem::FileType::vdisk || inode->size != entry.info.size) {
        problem("LUN " + entry.info.name + ": " + text_of(file) + " is not a vdisk of its size");
      }
    }
  }
}

std::string Checker::Impl::text_of(InodeNumber file) const {
  return "inode " + std::to_string(file.value()) + " of " + name_of(live_);
}

Checker::Impl::Seen* Checker::Impl::seen(InodeNumber file) {
  auto found = seen_.find(file.value() / filesystem::inodes_per_block);
  if (found == seen_.end()) return nullptr;
  Seen& seen = found->second[file.value() % filesystem::inodes_per_block];
  return seen.type == filesystem::FileType::none ? nullptr : &seen;
}

void Checker::Impl::next_directory() {
  if (directories_.empty()) return compare_links();
  const FileKey directory = directories_.front();
  directories_.pop_front();
  names_ = 0;
  read_directory(directory, 0);
}

void Checker::Impl::read_directory(FileKey directory, std::uint64_t from) {
  view_->missing.clear();
  auto part = options_.read_directory(*view_, directory, from);
  if (!view_->missing.empty()) {
    return look_up(std::exchange(view_->missing, {}),
                   [this, directory, from] { read_directory(directory, from); });
  }
  view_->pins.clear();
  if (!part) {
    problem("directory " + text_of(directory.inode) + " is damaged: " + part.error().message);
    incomplete_ = true;
    return soon([this] { next_directory(); });
  }
  for (const auto& [name, file] : part->names) {
    ++names_;
    Seen* named = seen(file);
    if (named == nullptr) {
      problem("directory " + text_of(directory.inode) + " names \"" + name + "\", inode " +
              std::to_string(file.value()) + ", which is free");
      continue;
    }
    ++named->names;
    if (named->type == filesystem::FileType::directory) ++seen(directory.inode)->directories;
  }
  const bool stuck = !part->end && part->next == from;
  if (!part->end && !stuck) {
    return soon([this, directory, next = part->next] { read_directory(directory, next); });
  }
  if (const std::uint64_t entries = seen(directory.inode)->entries; entries != names_) {
    problem("directory " + text_of(directory.inode) + " says that it has " +
            std::to_string(entries) + " names, and has " + std::to_string(names_));
  }
  soon([this] { next_directory(); });
}

// Blocks for the view, each by itself: one that cannot be read ends only what needs it.
void Checker::Impl::look_up(std::vector<BlockPointer> blocks, Then then) {
  auto buffer = make_buffer(blocks.size() * block_size);
  std::vector<raid::BlockRead> reads;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    reads.push_back(
        {blocks[i].address, blocks[i].crc, buffer.bytes.subspan(i * block_size, block_size)});
  }
  pool_.array_->read(std::move(reads), [self = shared_from_this(), blocks = std::move(blocks),
                                        buffer, then = std::move(then)](Status status) {
    if (self->over()) return;
    if (!status) return self->finish(std::move(status));  // it could be read a moment ago
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const Slice block = copy_to_slice(Bytes(buffer.bytes).subspan(i * block_size, block_size));
      self->view_->pins[blocks[i].address.value] = block;
      self->view_->cache.insert(blocks[i].address, block);
    }
    then();
  });
}

void Checker::Impl::compare_links() {
  for (const auto& [owner, attributes] : std::exchange(attributes_, {})) {
    if (Seen* named = seen(attributes); named != nullptr) {
      ++named->names;
    } else {
      problem("the attributes of " + text_of(owner) + ", inode " +
              std::to_string(attributes.value()) + ", are free");
    }
  }
  for (const auto& [number, inodes] : seen_) {
    for (std::uint64_t i = 0; i < inodes.size(); ++i) {
      const Seen& s = inodes[i];
      const InodeNumber file(number * filesystem::inodes_per_block + i);
      if (s.type == filesystem::FileType::none) continue;
      if (s.type == filesystem::FileType::vdisk && s.names == 0)
        continue;  // named by a LUN, if at all
      if (s.type == filesystem::FileType::directory) {
        if (file != filesystem::root_directory && s.names != 1) {
          problem("directory " + text_of(file) + " has " + std::to_string(s.names) + " names");
        }
        if (s.links != 2 + s.directories) {
          problem("directory " + text_of(file) + " has the link count " + std::to_string(s.links) +
                  " and " + std::to_string(s.directories) + " directories in it");
        }
      } else if (s.links != s.names + (s.held ? 1 : 0)) {
        problem(text_of(file) + " has the link count " + std::to_string(s.links) + " and " +
                std::to_string(s.names) + " names");
      }
    }
  }
  next_live_volume();
}

void Checker::Impl::check_luns() {
  std::set<std::string> names;
  for (const auto& [number, entry] : luns_) {
    if (!names.insert(entry.info.name).second) {
      problem("there are two LUNs of the name " + entry.info.name);
    }
    if (!luns_found_.contains(number)) {
      problem("LUN " + entry.info.name + ": inode " + std::to_string(entry.file.inode.value()) +
              " of " + name_of(entry.file.volume) + " does not exist");
    }
  }
  check_parity();
}

void Checker::Impl::check_parity() {
  if (!options_.parity) return finish({});
  // Of stripes that nobody uses the parity may be anything. The pool does not know them all.
  const auto live = [self = shared_from_this()](raid::BlockAddress address) {
    return self->used_.contains(address);
  };
  const auto found_wrong = [self = shared_from_this()](Result<std::uint64_t> found) {
    if (self->over()) return;
    if (!found) return self->finish(std::unexpected(found.error()));
    self->report_.mismatches = *found;
    if (*found > 0) {
      self->problem("the parity of " + std::to_string(*found) +
                    " stripes was wrong, and was repaired");
    }
    self->finish({});
  };
  pool_.array_->scrub(options_.rate, found_wrong, live);
}

}  // namespace duet::pool
