#include "files/reply_log.h"

#include <algorithm>

#include "base/crc32c.h"

namespace duet::files {
namespace {

constexpr std::uint8_t version = 1;
constexpr std::uint8_t flag_created = 1;
constexpr std::size_t directories_at = 64;
constexpr std::size_t directory_size = 24;
constexpr std::size_t used = 112;  // the rest is 0

std::optional<LoggedReply> decode(Bytes from) {
  if (load_le<std::uint32_t>(from.data()) != crc32c(from.subspan(4))) return {};
  const auto u8 = [&](std::size_t at) { return std::to_integer<std::uint8_t>(from[at]); };
  const auto u64 = [&](std::size_t at) { return load_le<std::uint64_t>(&from[at]); };
  LoggedReply reply;
  reply.kind = static_cast<RecordKind>(u8(5));
  const bool zeros = u8(7) == 0 && std::ranges::all_of(from.subspan(used), [](std::byte b) {
                       return b == std::byte{0};
                     });
  if (u8(4) != version || !zeros || u8(6) > flag_created ||
      !is_file_record(static_cast<nvlog::RecordKind>(u8(5)))) {
    return {};
  }
  reply.created = u8(6) != 0;
  std::ranges::copy(from.subspan(8, reply.id.client.size()), reply.id.client.begin());
  reply.id.xid = load_le<std::uint32_t>(&from[24]);
  reply.file.file.volume = VolumeId(load_le<std::uint32_t>(&from[28]));
  reply.file.file.inode = InodeNumber(u64(32));
  reply.number = u64(40);
  reply.file.generation = static_cast<std::int64_t>(u64(48));
  reply.time = static_cast<std::int64_t>(u64(56));
  for (std::size_t i = 0; i < reply.directories.size(); ++i) {
    const std::size_t at = directories_at + i * directory_size;
    reply.directories[i] = {InodeNumber(u64(at)), u64(at + 8), u64(at + 16)};
  }
  if (reply.number == 0) return {};
  return reply;
}

}  // namespace

void encode(const LoggedReply& reply, MutableBytes to) {
  ASSERT(to.size() == reply_size && reply.number > 0);
  std::ranges::fill(to, std::byte{0});
  to[4] = std::byte{version};
  to[5] = static_cast<std::byte>(reply.kind);
  to[6] = static_cast<std::byte>(reply.created ? flag_created : 0);
  std::ranges::copy(reply.id.client, to.begin() + 8);
  store_le(&to[24], reply.id.xid);
  store_le(&to[28], reply.file.file.volume.value());
  store_le(&to[32], reply.file.file.inode.value());
  store_le(&to[40], reply.number);
  store_le(&to[48], static_cast<std::uint64_t>(reply.file.generation));
  store_le(&to[56], static_cast<std::uint64_t>(reply.time));
  for (std::size_t i = 0; i < reply.directories.size(); ++i) {
    const std::size_t at = directories_at + i * directory_size;
    store_le(&to[at], reply.directories[i].directory.value());
    store_le(&to[at + 8], reply.directories[i].before);
    store_le(&to[at + 16], reply.directories[i].after);
  }
  store_le(to.data(), crc32c(Bytes(to).subspan(4)));
}

Replies decode_replies(Bytes from) {
  Replies all;
  for (; from.size() >= reply_size; from = from.subspan(reply_size)) {
    const Bytes place = from.first(reply_size);
    if (std::ranges::all_of(place, [](std::byte b) { return b == std::byte{0}; })) continue;
    if (auto reply = decode(place)) {
      all.replies.push_back(*reply);
    } else {
      ++all.damaged;
    }
  }
  return all;
}

LoggedReply reply_of(const Record& record, const Reply& reply) {
  ASSERT(reply.outcome == Outcome::ok);
  LoggedReply kept;
  kept.number = reply.number;
  kept.id = record.id.value_or(RequestId());
  kept.kind = kind_of(record.request);
  kept.created = reply.created;
  kept.time = record.time;
  kept.file.file = reply.file;
  std::size_t directories = 0;
  for (const InodeChange& change : reply.changes) {
    const Inode& known = change.after.type == FileType::none ? change.before : change.after;
    if (change.file == reply.file) kept.file.generation = known.created;
    const bool stays = change.after.type == FileType::directory &&
                       change.before.type == FileType::directory && change.file != reply.file;
    if (!stays || directories == kept.directories.size()) continue;
    kept.directories[directories++] = {change.file.inode, change.before.change_count,
                                       change.after.change_count};
  }
  return kept;
}

Attempt<std::uint64_t> draft_reply(Draft& draft, LoggedReply reply) {
  auto inode = draft.change_inode(reply_log);
  if (!inode && inode.error().outcome == Outcome::stale) {
    Inode made;
    made.type = FileType::system;
    made.size = reply_log_size;
    draft.make_file(reply_log, made);
    inode = draft.change_inode(reply_log);
  }
  if (!inode) return std::unexpected(inode.error());
  reply.number = ++(*inode)->entries;
  const std::uint64_t place = reply.number % max_replies;
  auto block = draft.change_block(reply_log, place / replies_per_block);
  if (!block) return std::unexpected(block.error());
  encode(reply, block->subspan(place % replies_per_block * reply_size, reply_size));
  return reply.number;
}

}  // namespace duet::files
