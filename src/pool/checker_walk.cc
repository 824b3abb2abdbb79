// The checker's way through trees.
#include <algorithm>
#include <utility>

#include "pool/checker_impl.h"

namespace duet::pool {

// ---- names ----

std::string Checker::Impl::place(raid::BlockAddress address) {
  return "block " + std::to_string(address.block()) + " of member " +
         std::to_string(address.member());
}

std::string Checker::Impl::name_of(VolumeId id) const {
  auto found = volumes_.find(id);
  if (found == volumes_.end()) return "volume " + std::to_string(id.value()) + " (removed)";
  const Volume& v = found->second;
  if (v.kind == VolumeKind::volume) return "volume " + v.name;
  auto parent = volumes_.find(v.parent);
  return "snapshot " + v.name + " of volume " +
         (parent == volumes_.end() ? std::to_string(v.parent.value()) : parent->second.name);
}

std::string Checker::Impl::describe(const Item& item) const {
  const std::uint8_t level = std::max(item.a_level, item.b_level);
  const std::string where = level == 0 ? "block " + std::to_string(item.index)
                                       : "indirect block " + std::to_string(item.index) +
                                             " of level " + std::to_string(level);
  switch (item.kind) {
    case Kind::maps:
      return where + " of the maps";
    case Kind::counts:
      return where + " of the counts";
    case Kind::own_inodes:
      return where + " of the inodes of the pool";
    case Kind::own_file:
      if (item.inode == volume_table) return where + " of the volume table";
      if (item.inode == lun_catalogue) return where + " of the LUN catalogue";
      if (item.inode == zombie_list) return where + " of the list of removed trees";
      return where + " of file " + std::to_string(item.inode.value()) + " of the pool";
    case Kind::inode_file:
      return where + " of the inode file of " + name_of(item.volume);
    case Kind::zombie:
    case Kind::zombie_inodes:
      return where + " of a removed tree of " + name_of(item.volume);
    case Kind::file:
      break;
  }
  std::string text =
      where + " of inode " + std::to_string(item.inode.value()) + " of " + name_of(item.volume);
  // What a snapshot shows of a LUN has the LUN's name.
  auto image = volumes_.find(item.volume);
  const bool snapshot = image != volumes_.end() && image->second.kind == VolumeKind::snapshot;
  const FileKey key{snapshot ? image->second.parent : item.volume, item.inode};
  if (auto lun = lun_names_.find(key); lun != lun_names_.end()) {
    text += " (LUN " + lun->second + ")";
  }
  return text;
}

// ---- accounts ----

// Distinguishes sets of pointers by the sums of their elements.
std::uint64_t Checker::Impl::fingerprint(const BlockPointer& p) {
  std::uint64_t x = p.address.value * 0x9e3779b97f4a7c15 ^ p.birth * 0xc2b2ae3d27d4eb4f ^ p.crc;
  x = (x ^ x >> 31) * 0xbf58476d1ce4e5b9;
  return x ^ x >> 29;
}

// What image b has and image a has not. False: nothing to go on with.
bool Checker::Impl::mark(const Item& item, const BlockPointer& pointer) {
  const auto refers = [&] { return describe(item) + " lies at " + place(pointer.address); };
  if (!shape_.valid(pointer.address)) {
    problem(refers() + ", which is outside of the pool");
    return false;
  }
  if (pointer.birth > newest_) {
    problem(refers() + ", born in consistency point " + std::to_string(pointer.birth) +
            ", later than what refers to it (" + std::to_string(newest_) + ")");
  } else if (before_ > 0 && pointer.birth <= before_) {
    problem(refers() + ", as old as a snapshot that has it nowhere there");
  }
  if (!maps_known_) {
    unmarked_.emplace_back(item, pointer);
  } else if (!used_.contains(pointer.address)) {
    problem(refers() + ", which is marked free");
  }
  if (!reached_.insert(pointer.address)) {
    problem(refers() + ", which belongs to something else, too");
    return false;
  }
  ++report_.blocks;
  ++family_blocks_;
  return true;
}

// What image a has and image b has not.
bool Checker::Impl::leave(const Item& item, const BlockPointer& pointer) {
  if (!shape_.valid(pointer.address)) return false;  // told when a was looked at
  if (!left_.insert(pointer.address)) {
    problem(describe(item) + " is twice in a snapshot, at " + place(pointer.address));
    pair_broken_ = true;
    return false;
  }
  left_fingerprint_ += fingerprint(pointer);
  return true;
}

bool Checker::Impl::account(const Item& item, const BlockPointer& pointer) {
  if (gives_up_ && pointer.birth <= before_) {  // the snapshot before it may have it
    if (left_.erase(pointer.address)) {
      left_fingerprint_ -= fingerprint(pointer);
      return true;
    }
    problem(describe(item) + " lies at " + place(pointer.address) +
            ", which no snapshot has given up");
    pair_broken_ = true;
    return false;
  }
  const Generation before = std::exchange(before_, gives_up_ ? 0 : before_);
  const bool marked = mark(item, pointer);
  before_ = before;
  return marked;
}

// ---- the walk ----

void Checker::Impl::walk(Item root, Walk how, Then then) {
  how_ = std::move(how);
  walked_ = std::move(then);
  enter(root);
  soon([this] { step(); });
}

// One after another.
void Checker::Impl::walk_all(std::vector<std::pair<Item, Walk>> walks, Then then) {
  if (walks.empty()) return soon(std::move(then));
  auto next = walks.back();
  walks.pop_back();
  walk(next.first, std::move(next.second),
       [this, walks = std::move(walks), then = std::move(then)] { walk_all(walks, then); });
}

bool Checker::Impl::leave_out(const Item& item, std::uint64_t index, std::uint8_t level) const {
  if (!how_.only) return false;
  const std::uint64_t begin = index << 8 * level;
  static_cast<void>(item);
  return begin >= how_.only->second || begin + (std::uint64_t{1} << 8 * level) <= how_.only->first;
}

bool Checker::Impl::wants_content(const Item& item) const {
  if (std::max(item.a_level, item.b_level) > 0) return true;
  switch (item.kind) {
    case Kind::inode_file:
    case Kind::zombie_inodes:
      return true;
    case Kind::maps:
    case Kind::counts:
    case Kind::own_inodes:
    case Kind::own_file:
      return how_.visit != nullptr || options_.data;
    case Kind::file:
      return options_.data && !item.b.hole();
    case Kind::zombie:
      return false;
  }
  return false;
}

void Checker::Impl::enter(Item item) {
  if (!how_.look) {
    if (item.a.birth <= floor_) item.a = {};
    if (item.b.birth <= floor_) item.b = {};
  }
  if (item.a.hole()) item.a_level = 0;
  if (item.b.hole()) item.b_level = 0;
  if (item.a == item.b && item.a_level == item.b_level) return;  // both have it
  const std::uint8_t level = std::max(item.a_level, item.b_level);
  if (level > max_levels) {
    problem(describe(item) + " has too many levels");
    return;
  }
  if (!item.b.hole() && item.b_level == level) {
    const bool good = how_.look ? shape_.valid(item.b.address) : account(item, item.b);
    if (!good) {
      item.b = {};
      item.b_level = 0;
      pair_broken_ = incomplete_ = true;
    }
  }
  if (!item.a.hole() && item.a_level == level && !how_.look && !leave(item, item.a)) item.a = {};
  if ((item.a.hole() && item.b.hole()) || !wants_content(item)) return;
  stack_.push_back(item);
}

void Checker::Impl::step() {
  if (over()) return;
  // The pool must not be held up by what the check keeps from being used again.
  if (pool_.state() == StorageState::active && pool_.unsettled_ > 0 && pool_.capacity().free == 0) {
    return finish(fail(ErrorCode::no_space, "the pool needs the room that the check keeps"));
  }
  batch_ = {};
  while (!stack_.empty() && batch_.pointers.size() + 2 <= blocks_per_read) {
    const Item item = stack_.back();
    stack_.pop_back();
    const std::uint8_t level = std::max(item.a_level, item.b_level);
    std::pair<int, int> slots{-1, -1};
    const auto add = [&](const BlockPointer& pointer, std::uint8_t its_level, int& slot) {
      if (pointer.hole() || its_level != level) return;
      slot = static_cast<int>(batch_.pointers.size());
      batch_.pointers.push_back(pointer);
      batch_.item_of.push_back(static_cast<int>(batch_.items.size()));
    };
    const bool data = item.kind == Kind::file && level == 0;  // only its checksum matters
    if (!data) add(item.a, item.a_level, slots.first);
    add(item.b, item.b_level, slots.second);
    batch_.slots.push_back(slots);
    batch_.items.push_back(item);
  }
  if (batch_.pointers.empty()) {
    return std::exchange(walked_, nullptr)();
  }
  batch_.bad.assign(batch_.pointers.size(), false);
  batch_.buffer = make_buffer(batch_.pointers.size() * block_size);
  std::vector<raid::BlockRead> reads;
  for (std::size_t i = 0; i < batch_.pointers.size(); ++i) {
    reads.push_back({batch_.pointers[i].address, batch_.pointers[i].crc,
                     batch_.buffer.bytes.subspan(i * block_size, block_size)});
  }
  read(std::move(reads), 0);
}

void Checker::Impl::read(std::vector<raid::BlockRead> reads, int attempt) {
  auto again = reads;
  pool_.array_->read(std::move(reads), [self = shared_from_this(), again = std::move(again),
                                        attempt](Status status) mutable {
    if (self->over()) return;
    if (status) return self->process();
    switch (status.error().code) {
      case ErrorCode::io_error:
        return self->read_singly(0);
      case ErrorCode::disconnected:
      case ErrorCode::timed_out:
      case ErrorCode::busy:
        if (attempt + 1 < read_attempts) {
          self->scheduler_.at(self->scheduler_.now() + read_again_after,
                              [self, again = std::move(again), attempt]() mutable {
                                if (!self->over()) self->read(std::move(again), attempt + 1);
                              });
          return;
        }
        break;
      default:
        break;
    }
    self->finish(std::move(status));
  });
}

// Some of them cannot be had: which?
void Checker::Impl::read_singly(std::size_t next) {
  if (next == batch_.pointers.size()) return process();
  const BlockPointer& pointer = batch_.pointers[next];
  std::vector<raid::BlockRead> one{
      {pointer.address, pointer.crc, batch_.buffer.bytes.subspan(next * block_size, block_size)}};
  pool_.array_->read(std::move(one), [self = shared_from_this(), next](Status status) {
    if (self->over()) return;
    if (!status && status.error().code != ErrorCode::io_error) {
      return self->finish(std::move(status));
    }
    if (!status) {
      const Item& item = self->batch_.items[static_cast<std::size_t>(self->batch_.item_of[next])];
      self->batch_.bad[next] = true;
      self->incomplete_ = self->pair_broken_ = true;
      self->problem(self->describe(item) + " cannot be read: " + status.error().message);
    }
    self->read_singly(next + 1);
  });
}

void Checker::Impl::process() {
  const Batch batch = std::exchange(batch_, {});
  report_.bytes_read += batch.pointers.size() * block_size;
  for (std::size_t i = 0; i < batch.items.size(); ++i) {
    const auto bytes = [&](int slot) -> Bytes {
      if (slot < 0 || batch.bad[static_cast<std::size_t>(slot)]) return {};
      return Bytes(batch.buffer.bytes)
          .subspan(static_cast<std::size_t>(slot) * block_size, block_size);
    };
    const Bytes a = bytes(batch.slots[i].first);
    const Bytes b = bytes(batch.slots[i].second);
    // Without one of the two, all of the other would look changed.
    if ((batch.slots[i].first >= 0 && a.empty()) || (batch.slots[i].second >= 0 && b.empty())) {
      continue;
    }
    process(batch.items[i], a, b);
    if (!running_) return;
  }
  if (options_.rate == 0) return soon([this] { step(); });
  const auto bytes = static_cast<std::int64_t>(batch.pointers.size() * block_size);
  const Duration pause(bytes * 1'000'000'000 / static_cast<std::int64_t>(options_.rate));
  scheduler_.at(scheduler_.now() + pause, [self = shared_from_this()] { self->step(); });
}

void Checker::Impl::process(const Item& item, Bytes a, Bytes b) {
  if (std::max(item.a_level, item.b_level) > 0) return process_indirect(item, a, b);
  if (how_.visit && !b.empty()) return how_.visit(item, b);
  if (item.kind == Kind::inode_file || item.kind == Kind::zombie_inodes) {
    process_inodes(item, a, b);
  }
}

void Checker::Impl::process_indirect(const Item& item, Bytes a, Bytes b) {
  const std::uint8_t level = std::max(item.a_level, item.b_level);
  const auto below = static_cast<std::uint8_t>(level - 1);
  for (std::uint64_t i = 0; i < filesystem::pointers_per_block; ++i) {
    Item child = item;
    child.index = item.index * filesystem::pointers_per_block + i;
    if (leave_out(item, child.index, below)) continue;
    // A tree of fewer levels is where the other one has its first block.
    if (!a.empty()) {
      child.a = filesystem::load_pointer(&a[i * filesystem::pointer_size]);
      child.a_level = below;
    } else if (i > 0) {
      child.a = {};
    }
    if (!b.empty()) {
      child.b = filesystem::load_pointer(&b[i * filesystem::pointer_size]);
      child.b_level = below;
      if (child.b.birth > item.b.birth) {
        if (!how_.look) problem(describe(child) + " is newer than the block that refers to it");
        pair_broken_ = incomplete_ = true;
        child.b = {};
      }
    } else if (i > 0) {
      child.b = {};
    }
    enter(child);
  }
}

void Checker::Impl::process_inodes(const Item& item, Bytes a, Bytes b) {
  for (std::uint64_t i = 0; i < filesystem::inodes_per_block; ++i) {
    const InodeNumber number(item.index * filesystem::inodes_per_block + i);
    Inode was;
    Inode is;
    const auto decode = [&](Bytes block, Inode& inode, bool tell) {
      if (block.empty()) return;
      auto decoded = filesystem::decode_inode(
          block.subspan(i * filesystem::inode_size, filesystem::inode_size));
      if (decoded) {
        inode = std::move(*decoded);
        return;
      }
      pair_broken_ = incomplete_ = true;
      if (tell) {
        problem("inode " + std::to_string(number.value()) + " of " + name_of(item.volume) +
                " is damaged: " + decoded.error().message);
      }
    };
    decode(a, was, false);
    decode(b, is, true);
    Item child;
    child.kind = item.kind == Kind::inode_file ? Kind::file : Kind::zombie;
    child.volume = item.volume;
    child.inode = number;
    child.a = was.root;
    child.a_level = was.levels;
    child.b = is.root;
    child.b_level = is.levels;
    const Generation holder = b.empty() ? 0 : item.b.birth;
    if (!is.root.hole() && is.root.birth > holder) {
      problem(describe(child) + " is newer than the inode that refers to it");
      pair_broken_ = incomplete_ = true;
      child.b = {};
    }
    enter(child);
  }
}

}  // namespace duet::pool
