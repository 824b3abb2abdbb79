#include "coredump/chunk_writer.h"

#include <zstd.h>

#include <algorithm>
#include <array>

#include "base/crc32c.h"

namespace duet::coredump {
namespace {

// Of zstd. A heap of pointers and small numbers becomes 8, 9, 28, 42 and 77 % at 1.0, 1.1, 1.6, 2.0
// and 3.1 GB/s of a core; blocks of data that are half full, 50 % at 1.0, 2.5, 3.4, 4.0 and 5.6.
constexpr std::array<int, ChunkWriter::efforts> levels = {1, -1, -10, -30, -100};

}  // namespace

struct ChunkWriter::Compressor {
  Compressor() : context(ZSTD_createCCtx(), &ZSTD_freeCCtx) {}
  std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context;
};

ChunkWriter::ChunkWriter(DumpName dump, std::uint64_t room, std::unique_ptr<Compressor> compressor)
    : dump_(dump), room_(room), compressor_(std::move(compressor)) {}
ChunkWriter::~ChunkWriter() = default;

Result<std::unique_ptr<ChunkWriter>> ChunkWriter::make(DumpName dump, std::uint64_t room) {
  if (room < end_size) return fail(ErrorCode::no_space, "no room for a dump");
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
  std::vector<std::byte> chunk(chunk_bound(max_plain_size));
  for (int effort = efforts - 1; effort >= 0; --effort) {
    if (!writer->compress(largest, chunk, effort)) return no_memory();
  }
  return writer;
}

Result<std::size_t> ChunkWriter::compress(Bytes plain, MutableBytes chunk, int effort) {
  static_assert(ZSTD_COMPRESSBOUND(max_plain_size) <= max_stored_size);
  ZSTD_CCtx* context = compressor_->context.get();
  std::size_t size = ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel,
                                            levels.at(static_cast<std::size_t>(effort)));
  if (ZSTD_isError(size) == 0) {
    size = ZSTD_compress2(context, chunk.data() + chunk_header_size,
                          chunk.size() - chunk_header_size, plain.data(), plain.size());
  }
  if (ZSTD_isError(size) != 0) {
    return fail(ErrorCode::no_space, std::string("zstd: ") + ZSTD_getErrorName(size));
  }
  return size;
}

Result<std::size_t> ChunkWriter::put(ChunkKind kind, Bytes plain, MutableBytes out, int effort) {
  ASSERT(!ended_ && kind != ChunkKind::end && (kind == ChunkKind::information) == (index_ == 0));
  ASSERT(!plain.empty() && plain.size() <= max_plain_size && effort >= 0 && effort < efforts);
  ASSERT(out.size() >= chunk_bound(plain.size()));
  auto size = compress(plain, out.first(chunk_bound(plain.size())), effort);
  if (!size) return std::unexpected(size.error());
  ChunkHeader header{.dump = dump_,
                     .index = index_,
                     .kind = kind,
                     .position = core_done_,
                     .plain_size = static_cast<std::uint32_t>(plain.size()),
                     .stored_size = static_cast<std::uint32_t>(*size)};
  if (stored_ + chunk_size(header) + end_size > room_) {
    return fail(ErrorCode::no_space, "the dump does not fit on the disk");
  }
  if (kind == ChunkKind::core) core_done_ += plain.size();
  return lay_out(header, out);
}

std::size_t ChunkWriter::end(MutableBytes out) {
  ASSERT(!ended_ && out.size() >= end_size);
  ended_ = true;
  return lay_out({.dump = dump_, .index = index_, .kind = ChunkKind::end, .position = core_done_},
                 out);
}

// Around the frame, which is in its place.
std::size_t ChunkWriter::lay_out(ChunkHeader header, MutableBytes out) {
  std::size_t used = chunk_header_size + header.stored_size;
  std::size_t size = chunk_size(header);
  header.stored_crc = crc32c(out.subspan(chunk_header_size, header.stored_size));
  std::ranges::copy(encode_chunk_header(header), out.begin());
  std::ranges::fill(out.subspan(used, size - used), std::byte{0});
  ++index_;
  stored_ += size;
  ASSERT(stored_ <= room_);
  return size;
}

}  // namespace duet::coredump
