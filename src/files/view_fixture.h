// A volume in memory for tests. Parts of it are "not in memory" now and then, so that operations
// are run again; it fails if a run looks after its first change, or changes what it did not look
// at.
#pragma once

#include <array>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <stdexcept>
#include <unordered_map>

#include "base/assert.h"
#include "base/sanitized.h"
#include "files/apply.h"
#include "filesystem/log_record.h"
#include "filesystem/view.h"

namespace duet::files {

inline constexpr VolumeId test_volume{1};
inline constexpr FileKey test_root{test_volume, filesystem::root_directory};

class MemoryView : public filesystem::View {
 public:
  using Block = std::array<std::byte, filesystem::block_size>;
  struct File {
    Inode inode;
    std::map<std::uint64_t, std::unique_ptr<Block>> blocks;
  };

  MemoryView() {
    files[test_root].inode = make_root_directory({0755, 0, 0}, 1);
    next_[test_volume] = 3;
  }

  // ---- what a test does ----
  // Runs until it is not busy for what is not in memory.
  template <class F>
  auto run(F&& f) {
    if (evict_every > 0 && random_() % evict_every == 0) resident_.clear();
    for (int i = 0; i < 10'000; ++i) {
      begin_run();
      auto result = f();
      changing_ = false;
      if (noted_.empty()) return result;
      ++reruns;
      resident_.insert(noted_.begin(), noted_.end());
    }
    throw std::runtime_error("runs for ever");
  }
  Reply commit(const Request& request, std::int64_t time = 1) {
    return commit(Record{request, time, {}, {}});
  }
  Reply commit(const Record& record) {
    return run([&] {
      Prepared prepared = prepare(*this, record);
      if (prepared.reply().outcome == Outcome::ok) {
        prepared.commit();
      }
      return prepared.reply();
    });
  }
  const Inode& at(FileKey file) const { return files.at(file).inode; }
  std::string content(FileKey file, std::uint64_t offset, std::uint64_t length) const {
    std::string out(length, '\0');
    for (const auto& [number, block] : files.at(file).blocks) {
      const std::uint64_t start = number * filesystem::block_size;
      for (std::uint64_t i = 0; i < filesystem::block_size; ++i) {
        if (start + i >= offset && start + i < offset + length) {
          out[start + i - offset] = static_cast<char>((*block)[i]);
        }
      }
    }
    return out;
  }
  std::uint64_t blocks_in_use() const {
    std::uint64_t sum = 0;
    for (const auto& [key, file] : files) sum += file.blocks.size();
    return sum;
  }
  // As it comes from the disks: every inode is encoded and decoded.
  std::unique_ptr<MemoryView> remount() const {
    auto copy = std::make_unique<MemoryView>();
    copy->files.clear();
    copy->next_ = next_;
    copy->evict_every = evict_every;
    for (const auto& [key, file] : files) {
      std::array<std::byte, filesystem::inode_size> bytes;
      filesystem::encode(file.inode, bytes);
      auto inode = filesystem::decode_inode(bytes);
      ASSERT(inode);
      File& to = copy->files[key];
      to.inode = *inode;
      for (const auto& [number, block] : file.blocks) {
        to.blocks[number] = std::make_unique<Block>(*block);
      }
    }
    return copy;
  }
  bool same(const MemoryView& other) const {
    auto equal = [](const auto& a, const auto& b) {
      if (a.first != b.first || !(a.second.inode == b.second.inode)) return false;
      return std::ranges::equal(a.second.blocks, b.second.blocks, [](auto& x, auto& y) {
        return x.first == y.first && *x.second == *y.second;
      });
    };
    return std::ranges::equal(files, other.files, equal) && next_ == other.next_;
  }
  void give_next(InodeNumber number) { next_[test_volume] = number.value(); }

  std::map<FileKey, File> files;
  bool read_only = false;                   // a snapshot
  unsigned evict_every = 0;                 // operations; 0: everything is in memory
  std::optional<std::uint64_t> space_left;  // blocks
  std::optional<std::uint64_t> quota_left;
  std::set<std::pair<FileKey, std::uint64_t>> unreadable;  // blocks
  std::uint64_t reruns = 0;
  std::uint64_t looked_at = 0;  // blocks, in the last run
  std::uint64_t asked = 0;      // blocks of space, in the last run; 0: did not ask

  // ---- View ----
  Result<Inode> inode(FileKey file) override {
    if (auto here = look({file, ~std::uint64_t{0}}); !here) return std::unexpected(here.error());
    auto found = files.find(file);
    if (found == files.end()) return fail(ErrorCode::not_found, "free");
    return found->second.inode;
  }
  Result<Bytes> block(FileKey file, std::uint64_t number) override {
    if (auto here = look({file, number}); !here) return std::unexpected(here.error());
    ASSERT(number < filesystem::max_file_blocks);
    if (unreadable.contains({file, number})) return fail(ErrorCode::io_error, "checksum");
    ++looked_at;
    looked_.insert({file, number});
    auto found = files.find(file);
    if (found == files.end()) return fail(ErrorCode::not_found, "free");
    static const Block zeros{};
    auto block = found->second.blocks.find(number);
    if (block == found->second.blocks.end()) return Bytes(zeros);
    return Bytes(*block->second);
  }
  Result<std::uint64_t> next_block(FileKey file, std::uint64_t from) override {
    auto& blocks = files.at(file).blocks;
    auto found = blocks.lower_bound(from);
    return found == blocks.end() ? filesystem::max_file_blocks : found->first;
  }
  Status space(VolumeId, std::uint64_t blocks) override {
    ASSERT(!changing_);
    asked = blocks;
    if (space_left && blocks > *space_left) return fail(ErrorCode::no_space, "full");
    if (quota_left && blocks > *quota_left) return fail(ErrorCode::refused, "quota");
    return {};
  }
  Result<InodeNumber> next_inode(VolumeId volume) override {
    if (!next_.contains(volume) || read_only) return fail(ErrorCode::not_found, "no such volume");
    FileKey next{volume, InodeNumber(next_[volume])};
    if (auto here = look({next, ~std::uint64_t{0}}); !here) return std::unexpected(here.error());
    return next.inode;
  }
  InodeNumber allocate_inode(VolumeId volume) override {
    changing_ = true;
    FileKey made{volume, InodeNumber(next_[volume]++)};
    ASSERT(looked_.contains({made, ~std::uint64_t{0}}));
    made_.insert(made);
    return made.inode;
  }
  void set_inode(FileKey file, const Inode& inode) override {
    changing_ = true;
    ASSERT(looked_.contains({file, ~std::uint64_t{0}}));
    if (inode.type == FileType::none) {
      ASSERT(files.erase(file) == 1);
      return;
    }
    ASSERT(files.contains(file) || made_.contains(file) || file.volume == filesystem::pool_volume);
    files[file].inode = inode;
  }
  MutableBytes change_block(FileKey file, std::uint64_t number) override {
    changing_ = true;
    ASSERT(looked_.contains({file, number}));
    auto& block = files.at(file).blocks[number];
    auto fresh = std::make_unique<Block>();  // elsewhere: what was handed out is invalid now
    if (block) *fresh = *block;
    block = std::move(fresh);
    return *block;
  }
  void write(FileKey file, std::uint64_t offset, const std::vector<Slice>& data) override {
    changing_ = true;
    ASSERT(offset % filesystem::sector_size == 0);
    for (const Slice& slice : data) {
      for (Bytes rest = slice.bytes; !rest.empty();) {
        auto& block = files.at(file).blocks[offset / filesystem::block_size];
        if (!block) block = std::make_unique<Block>();
        const std::uint64_t at = offset % filesystem::block_size;
        const auto part = std::min<std::uint64_t>(rest.size(), filesystem::block_size - at);
        std::memcpy(block->data() + at, rest.data(), part);
        rest = rest.subspan(part);
        offset += part;
      }
    }
    ASSERT(offset % filesystem::sector_size == 0);
  }
  void zero(FileKey file, std::uint64_t offset, std::uint64_t length) override {
    changing_ = true;
    ASSERT(offset % filesystem::sector_size == 0 && length % filesystem::sector_size == 0);
    ASSERT(offset + length <= filesystem::max_file_size && length > 0);
    auto& blocks = files.at(file).blocks;
    for (auto i = blocks.lower_bound(offset / filesystem::block_size); i != blocks.end();) {
      const std::uint64_t start = i->first * filesystem::block_size;
      if (start >= offset + length) break;
      const std::uint64_t from = std::max(start, offset);
      const std::uint64_t to = std::min(start + filesystem::block_size, offset + length);
      if (to - from == filesystem::block_size) {
        i = blocks.erase(i);
      } else {
        std::memset(i->second->data() + (from - start), 0, to - from);
        ++i;
      }
    }
  }

 private:
  using Item = std::pair<FileKey, std::uint64_t>;  // a block; ~0: the inode

  void begin_run() {
    noted_.clear();
    looked_.clear();
    made_.clear();
    changing_ = false;
    looked_at = 0;
    asked = 0;
  }
  Status look(const Item& item) {
    ASSERT(!changing_);
    if (evict_every > 0 && !resident_.contains(item)) {
      noted_.insert(item);
      return fail(ErrorCode::busy, "not in memory");
    }
    looked_.insert(item);
    return {};
  }

  std::map<VolumeId, std::uint64_t> next_;
  std::mt19937_64 random_{1};
  std::set<Item> resident_;
  std::set<Item> noted_;
  std::set<Item> looked_;
  std::set<FileKey> made_;
  bool changing_ = false;
};

inline Slice bytes_of(std::string_view text) {
  return copy_to_slice(std::as_bytes(std::span(text)));
}

}  // namespace duet::files
