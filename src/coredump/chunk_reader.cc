#include "coredump/chunk_reader.h"

#include <zstd.h>

#include <algorithm>

#include "base/crc32c.h"

namespace duet::coredump {

struct ChunkReader::Decompressor {
  Decompressor() : context(ZSTD_createDCtx(), &ZSTD_freeDCtx) {}
  std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context;
};

ChunkReader::ChunkReader(DumpName dump, std::uint64_t room,
                         std::unique_ptr<Decompressor> decompressor)
    : dump_(dump), room_(room), decompressor_(std::move(decompressor)), plain_(max_plain_size) {
  ask(disk::area_block_size);
}
ChunkReader::~ChunkReader() = default;

Result<std::unique_ptr<ChunkReader>> ChunkReader::make(DumpName dump, std::uint64_t room) {
  auto decompressor = std::make_unique<Decompressor>();
  if (!decompressor->context) return fail(ErrorCode::no_space, "no memory to unpack a dump");
  return std::unique_ptr<ChunkReader>(new ChunkReader(dump, room, std::move(decompressor)));
}

void ChunkReader::on_unreadable(std::string why) {
  ASSERT(phase_ == Phase::reading);
  phase_ = Phase::truncated;
  reason_ = std::move(why);
  next_ = {};
}

void ChunkReader::ask(std::uint64_t size) {
  next_ = {raw_done_, size};
  if (size > room_ - raw_done_) on_unreadable("the room ends");
}

Status ChunkReader::check(const ChunkHeader& header) const {
  if (header.dump != dump_) return fail(ErrorCode::invalid, "a chunk of another dump");
  if (header.index != index_) return fail(ErrorCode::invalid, "a chunk out of turn");
  if ((header.kind == ChunkKind::information) != (index_ == 0)) {
    return fail(ErrorCode::invalid, "a chunk of a kind that has no place here");
  }
  if (header.position != core_done_) {
    return fail(ErrorCode::invalid, "a chunk of another position");
  }
  return {};
}

std::optional<ChunkReader::Part> ChunkReader::on_bytes(Bytes bytes) {
  ASSERT(phase_ == Phase::reading && bytes.size() == next_.size);
  if (!header_) {
    auto header = decode_chunk_header(bytes);
    Status fits = header ? check(*header) : Status(std::unexpected(header.error()));
    if (!fits) {
      on_unreadable(std::move(fits.error().message));
      return std::nullopt;
    }
    header_ = *header;
  }
  if (chunk_size(*header_) > bytes.size()) {
    ask(chunk_size(*header_));
    return std::nullopt;
  }
  return on_chunk(bytes);
}

std::optional<ChunkReader::Part> ChunkReader::on_chunk(Bytes bytes) {
  // The first block was read twice, if the chunk is longer: the same bytes, or no chunk.
  auto again = decode_chunk_header(bytes);
  if (!again || *again != *header_) {
    on_unreadable("a chunk that changes while it is read");
    return std::nullopt;
  }
  ChunkHeader header = *header_;
  header_.reset();
  Bytes stored = bytes.subspan(chunk_header_size, header.stored_size);
  bool padded = std::ranges::all_of(bytes.subspan(chunk_header_size + header.stored_size),
                                    [](std::byte b) { return b == std::byte{0}; });
  if (crc32c(stored) != header.stored_crc || !padded) {
    on_unreadable("a chunk with a wrong checksum");
    return std::nullopt;
  }
  if (header.kind == ChunkKind::end) {
    raw_done_ += bytes.size();
    phase_ = Phase::complete;
    next_ = {};
    return std::nullopt;
  }
  std::size_t size = ZSTD_decompressDCtx(decompressor_->context.get(), plain_.data(), plain_.size(),
                                         stored.data(), stored.size());
  if (ZSTD_isError(size) != 0 || size != header.plain_size) {
    on_unreadable("a chunk that does not unpack");
    return std::nullopt;
  }
  ++index_;
  raw_done_ += bytes.size();
  if (header.kind == ChunkKind::core) core_done_ += size;
  ask(disk::area_block_size);
  return Part{header.kind, Bytes(plain_).first(size)};
}

}  // namespace duet::coredump
