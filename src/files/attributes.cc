#include "files/attributes.h"

#include <algorithm>
#include <bitset>
#include <optional>

#include "base/assert.h"
#include "files/names.h"
#include "files/operations.h"

namespace duet::files {
namespace {

using filesystem::sector_size;

std::unexpected<Failure> damaged(FileKey file) {
  return refuse(Outcome::io, "extended attributes of inode " + std::to_string(file.inode.value()));
}

// The file of the attributes; nothing: there are none.
Attempt<std::optional<FileKey>> look_attributes(Draft& draft, FileKey file) {
  auto inode = look_file(draft, file);
  if (!inode) return std::unexpected(inode.error());
  if ((*inode)->attributes == filesystem::no_inode) return std::nullopt;
  const FileKey attributes{file.volume, (*inode)->attributes};
  auto beside = draft.inode(attributes);
  if (!beside && beside.error().outcome != Outcome::stale) return std::unexpected(beside.error());
  if (!beside || (*beside)->type != FileType::attributes || (*beside)->parent != file.inode) {
    return damaged(file);
  }
  return attributes;
}

struct Found {
  DirectoryTree::Slot slot;
  std::optional<ValuePlace> value;
};
Attempt<Found> find(Draft& draft, FileKey attributes, std::string_view name) {
  auto slot = DirectoryTree(draft, attributes).find(name);
  if (!slot) return std::unexpected(slot.error());
  if (!slot->entry) return Found{*slot, {}};
  auto place = decode_value_place(slot->entry->value);
  if (!place) return damaged(attributes);
  return Found{*slot, *place};
}

Attempt<std::uint64_t> free_slot(Draft& draft, FileKey attributes) {
  DirectoryTree tree(draft, attributes);
  std::bitset<max_attributes> used;
  for (std::uint64_t key = 0;;) {
    auto entry = tree.next(key);
    if (!entry) return std::unexpected(entry.error());
    if (!*entry) break;
    auto place = decode_value_place((*entry)->value);
    if (!place || used[place->slot]) return damaged(attributes);
    used.set(place->slot);
    key = (*entry)->key + 1;
  }
  for (std::uint64_t slot = 0; slot < max_attributes; ++slot) {
    if (!used[slot]) return slot;
  }
  return refuse(Outcome::no_space, "too many extended attributes");
}

constexpr std::uint64_t sectors(std::uint64_t bytes) {
  return (bytes + sector_size - 1) / sector_size * sector_size;
}

// Replaces a value of `old_length` bytes in the same slot.
void write_value(Draft& draft, FileKey attributes, const ValuePlace& place, const Slice& value,
                 std::uint64_t old_length) {
  const std::uint64_t base = place.first_block() * block_size;
  std::vector<Slice> data;
  const std::size_t whole = value.bytes.size() / sector_size * sector_size;
  if (whole > 0) data.push_back({value.owner, value.bytes.first(whole)});
  if (whole < value.bytes.size()) {
    OwnedBuffer tail = make_buffer(sector_size);
    std::ranges::copy(value.bytes.subspan(whole), tail.bytes.begin());
    data.push_back(tail.slice());
  }
  if (!data.empty()) draft.write(attributes, base, std::move(data));
  const std::uint64_t begin = sectors(value.bytes.size());
  const std::uint64_t end = (old_length + block_size - 1) / block_size * block_size;
  if (end > begin) draft.zero(attributes, base + begin, end - begin);
}

}  // namespace

std::uint64_t encode(const ValuePlace& place) {
  ASSERT(place.slot < max_attributes && place.length <= max_value);
  return (place.slot + 1) << 32 | place.length;
}

Result<ValuePlace> decode_value_place(std::uint64_t value) {
  const std::uint64_t slot = value >> 32;
  const std::uint64_t length = value & 0xffffffff;
  if (slot == 0 || slot > max_attributes || length > max_value) {
    return fail(ErrorCode::invalid, "place of the value of an extended attribute");
  }
  return ValuePlace{slot - 1, length};
}

Attempt<std::vector<std::byte>> get_attribute(Draft& draft, FileKey file, std::string_view name) {
  if (auto good = check_name(name, Outcome::invalid); !good) return std::unexpected(good.error());
  auto attributes = look_attributes(draft, file);
  if (!attributes) return std::unexpected(attributes.error());
  if (!*attributes) return refuse(Outcome::no_entry);
  auto found = find(draft, **attributes, name);
  if (!found) return std::unexpected(found.error());
  if (!found->value) return refuse(Outcome::no_entry);
  std::vector<std::byte> value;
  std::optional<Failure> failure;  // the other blocks are looked at all the same: one way for all
  for (std::uint64_t done = 0; done < found->value->length; done += block_size) {
    auto block = draft.block(**attributes, found->value->first_block() + done / block_size);
    if (!block) {
      if (!failure || failure->outcome == Outcome::busy) failure = block.error();
      continue;
    }
    const auto part = std::min<std::uint64_t>(block_size, found->value->length - done);
    value.insert(value.end(), block->begin(), block->begin() + static_cast<std::ptrdiff_t>(part));
  }
  if (failure) return std::unexpected(*failure);
  return value;
}

Attempt<std::vector<std::string>> list_attributes(Draft& draft, FileKey file) {
  auto attributes = look_attributes(draft, file);
  if (!attributes) return std::unexpected(attributes.error());
  std::vector<std::string> names;
  if (!*attributes) return names;
  DirectoryTree tree(draft, **attributes);
  for (std::uint64_t key = 0;;) {
    auto entry = tree.next(key);
    if (!entry) return std::unexpected(entry.error());
    if (!*entry) return names;
    if (names.size() == max_attributes) return damaged(file);
    names.emplace_back((*entry)->name);
    key = (*entry)->key + 1;
  }
}

Attempt<Drafted> draft(Draft& draft, const SetAttribute& request, std::int64_t time) {
  if (auto good = check_name(request.name, Outcome::invalid); !good) {
    return std::unexpected(good.error());
  }
  auto attributes = look_attributes(draft, request.file);
  if (!attributes) return std::unexpected(attributes.error());
  auto inode = draft.change_inode(request.file);
  if (!inode) return std::unexpected(inode.error());
  if (!*attributes) {
    if (request.how == SetMode::replace) return refuse(Outcome::no_entry);
    Inode beside = make_inode(FileType::attributes, {}, 0, time);
    beside.parent = request.file.inode;
    beside.size = attribute_file_blocks * block_size;
    auto made = draft.new_inode(request.file.volume, std::move(beside));
    if (!made) return std::unexpected(made.error());
    (*inode)->attributes = made->inode;
    *attributes = *made;
  }
  auto found = find(draft, **attributes, request.name);
  if (!found) return std::unexpected(found.error());
  if (found->value && request.how == SetMode::create) return refuse(Outcome::exists);
  if (!found->value && request.how == SetMode::replace) return refuse(Outcome::no_entry);
  ValuePlace place{0, request.value.bytes.size()};
  DirectoryTree tree(draft, **attributes);
  if (found->value) {
    place.slot = found->value->slot;
    auto done = tree.replace(found->slot.key, encode(place), FileType::attributes);
    if (!done) return std::unexpected(done.error());
  } else {
    auto slot = free_slot(draft, **attributes);
    if (!slot) return std::unexpected(slot.error());
    place.slot = *slot;
    auto done = tree.insert({found->slot.key, encode(place), FileType::attributes, request.name});
    if (!done) return std::unexpected(done.error());
  }
  write_value(draft, **attributes, place, request.value, found->value ? found->value->length : 0);
  touch(**inode, time);
  return Drafted{request.file, false};
}

Attempt<Drafted> draft(Draft& draft, const RemoveAttribute& request, std::int64_t time) {
  if (auto good = check_name(request.name, Outcome::invalid); !good) {
    return std::unexpected(good.error());
  }
  auto attributes = look_attributes(draft, request.file);
  if (!attributes) return std::unexpected(attributes.error());
  if (!*attributes) return refuse(Outcome::no_entry);
  auto found = find(draft, **attributes, request.name);
  if (!found) return std::unexpected(found.error());
  if (!found->value) return refuse(Outcome::no_entry);
  auto inode = draft.change_inode(request.file);
  if (!inode) return std::unexpected(inode.error());
  auto beside = draft.inode(**attributes);
  if (!beside) return std::unexpected(beside.error());
  if ((*beside)->entries == 1) {
    draft.free_inode(**attributes);
    (*inode)->attributes = filesystem::no_inode;
  } else {
    auto removed = DirectoryTree(draft, **attributes).remove(found->slot.key);
    if (!removed) return std::unexpected(removed.error());
    write_value(draft, **attributes, *found->value, {}, found->value->length);
  }
  touch(**inode, time);
  return Drafted{request.file, false, Asks::for_nothing};
}

}  // namespace duet::files
