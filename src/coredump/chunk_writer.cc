#include "coredump/chunk_writer.h"

#include <zstd.h>

#include <algorithm>
#include <array>

#include "base/crc32c.h"
#include "disk/areas.h"

namespace duet::coredump {
namespace {

// Of zstd. Pointers and small numbers, which is what a core is full of, compress to 28, 30, 50, 63
// and 100 % at 0.4, 0.5, 0.6, 1.5 and 5 GB/s of a core.
constexpr std::array<int, ChunkWriter::efforts> levels = {1, -1, -5, -20, -1000};
constexpr std::size_t largest_chunk = chunk_header_size + max_stored_size + disk::area_block_size;

}  // namespace

struct ChunkWriter::Compressor {
  Compressor() : context(ZSTD_createCCtx(), &ZSTD_freeCCtx) {}
  std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context;
};

ChunkWriter::ChunkWriter(DumpName dump, std::uint64_t room, std::unique_ptr<Compressor> compressor)
    : dump_(dump), room_(room), compressor_(std::move(compressor)), blocks_(largest_chunk) {}
ChunkWriter::~ChunkWriter() = default;

Result<std::unique_ptr<ChunkWriter>> ChunkWriter::make(DumpName dump, std::uint64_t room) {
  if (room < disk::area_block_size) return fail(ErrorCode::no_space, "no room for a dump");
  auto compressor = std::make_unique<Compressor>();
  ZSTD_CCtx* context = compressor->context.get();
  const auto no_memory = [] { return fail(ErrorCode::no_space, "no memory to compress a dump"); };
  if (context == nullptr) return no_memory();
  if (ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1)) != 0) {
    return no_memory();
  }
  std::unique_ptr<ChunkWriter> writer(new ChunkWriter(dump, room, std::move(compressor)));
  // Makes the compressor take its memory for the largest chunk now, and not while dumping.
  std::vector<std::byte> largest(max_plain_size);
  for (int effort = efforts - 1; effort >= 0; --effort) {
    if (!writer->compress(largest, effort)) return no_memory();
  }
  return writer;
}

Result<std::size_t> ChunkWriter::compress(Bytes plain, int effort) {
  static_assert(ZSTD_COMPRESSBOUND(max_plain_size) <= max_stored_size);
  ZSTD_CCtx* context = compressor_->context.get();
  std::size_t size = ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel,
                                            levels.at(static_cast<std::size_t>(effort)));
  if (ZSTD_isError(size) == 0) {
    size = ZSTD_compress2(context, blocks_.data() + chunk_header_size, max_stored_size,
                          plain.data(), plain.size());
  }
  if (ZSTD_isError(size) != 0) {
    return fail(ErrorCode::no_space, std::string("zstd: ") + ZSTD_getErrorName(size));
  }
  return size;
}

Result<Bytes> ChunkWriter::put(ChunkKind kind, Bytes plain, int effort) {
  ASSERT(!ended_ && kind != ChunkKind::end && (kind == ChunkKind::information) == (index_ == 0));
  ASSERT(!plain.empty() && plain.size() <= max_plain_size && effort >= 0 && effort < efforts);
  auto size = compress(plain, effort);
  if (!size) return std::unexpected(size.error());
  ChunkHeader header{.dump = dump_,
                     .index = index_,
                     .kind = kind,
                     .position = core_done_,
                     .plain_size = static_cast<std::uint32_t>(plain.size()),
                     .stored_size = static_cast<std::uint32_t>(*size)};
  if (stored_ + chunk_size(header) + disk::area_block_size > room_) {
    return fail(ErrorCode::no_space, "the dump does not fit on the disk");
  }
  if (kind == ChunkKind::core) core_done_ += plain.size();
  return lay_out(header);
}

Bytes ChunkWriter::end() {
  ASSERT(!ended_);
  ended_ = true;
  return lay_out({.dump = dump_, .index = index_, .kind = ChunkKind::end, .position = core_done_});
}

Bytes ChunkWriter::lay_out(ChunkHeader header) {
  std::size_t used = chunk_header_size + header.stored_size;
  std::size_t size = chunk_size(header);
  header.stored_crc = crc32c(Bytes(blocks_).subspan(chunk_header_size, header.stored_size));
  std::ranges::copy(encode_chunk_header(header), blocks_.begin());
  std::ranges::fill(MutableBytes(blocks_).subspan(used, size - used), std::byte{0});
  ++index_;
  stored_ += size;
  ASSERT(stored_ <= room_);
  return Bytes(blocks_).first(size);
}

}  // namespace duet::coredump
