#include "coredump/chunk.h"

#include <gtest/gtest.h>

#include <array>

#include "base/crc32c.h"
#include "coredump/chunk_reader.h"
#include "coredump/chunk_writer.h"
#include "coredump/noise_fixture.h"

namespace duet::coredump {
namespace {

constexpr DumpName dump{BootNonce(0xb1b2b3b4b5b6b7b8), Epoch(7)};
constexpr std::uint64_t room = 64 * 1024 * 1024;

Bytes text(std::string_view s) {
  return std::as_bytes(std::span(s));
}

struct Written {
  Buffer raw;
  Buffer core;
  std::vector<std::size_t> starts;  // of the chunks
};

// Behind what is in `raw`.
Status put(ChunkWriter& writer, Buffer& raw, ChunkKind kind, Bytes plain, int effort = 0) {
  Buffer chunk(chunk_bound(plain.size()));
  auto size = writer.put(kind, plain, chunk, effort);
  if (!size) return std::unexpected(size.error());
  raw.insert(raw.end(), chunk.begin(), chunk.begin() + static_cast<std::ptrdiff_t>(*size));
  return {};
}
void end(ChunkWriter& writer, Buffer& raw) {
  raw.resize(raw.size() + ChunkWriter::end_size);
  EXPECT_EQ(writer.end(MutableBytes(raw).last(ChunkWriter::end_size)), ChunkWriter::end_size);
}

Written write(bool with_end = true) {
  auto writer = *ChunkWriter::make(dump, room);
  Written out;
  auto next = [&](ChunkKind kind, const Buffer& plain) {
    EXPECT_EQ(writer->stored(), out.raw.size());
    out.starts.push_back(out.raw.size());
    ASSERT_TRUE(put(*writer, out.raw, kind, plain));
    if (kind == ChunkKind::core) out.core.insert(out.core.end(), plain.begin(), plain.end());
  };
  next(ChunkKind::information, noise(300, 3));
  next(ChunkKind::core, noise(max_plain_size));
  next(ChunkKind::core, Buffer(max_plain_size));
  next(ChunkKind::core, noise(1, 4));
  next(ChunkKind::core, noise(5000, 5));
  EXPECT_EQ(writer->core_done(), out.core.size());
  out.starts.push_back(out.raw.size());
  if (with_end) end(*writer, out.raw);
  out.starts.push_back(out.raw.size());
  EXPECT_EQ(writer->stored(), out.raw.size());
  return out;
}

struct Read {
  ChunkReader::Phase phase{};
  std::string reason;
  Buffer information;
  Buffer core;
  std::uint64_t raw_done = 0;
};

// Bytes beyond `raw` read as zero, as a fresh disk does.
Read read(const Buffer& raw, std::uint64_t reader_room = room, DumpName name = dump) {
  auto reader = *ChunkReader::make(name, reader_room);
  Read out;
  while (reader->phase() == ChunkReader::Phase::reading) {
    auto [offset, size] = reader->next();
    EXPECT_LE(offset + size, reader_room);
    Buffer bytes(size);
    if (offset < raw.size()) {
      std::size_t n = std::min<std::size_t>(size, raw.size() - offset);
      std::copy_n(raw.begin() + static_cast<std::ptrdiff_t>(offset), n, bytes.begin());
    }
    if (auto part = reader->on_bytes(bytes)) {
      auto& to = part->kind == ChunkKind::core ? out.core : out.information;
      to.insert(to.end(), part->plain.begin(), part->plain.end());
    }
  }
  EXPECT_EQ(reader->core_done(), out.core.size());
  out.phase = reader->phase();
  out.reason = reader->reason();
  out.raw_done = reader->raw_done();
  return out;
}

void expect_prefix(const Read& r, const Written& w) {
  ASSERT_LE(r.core.size(), w.core.size());
  EXPECT_TRUE(std::equal(r.core.begin(), r.core.end(), w.core.begin()));
}

void fix_crc(std::byte* header) {
  store_le(header + 56, crc32c(Bytes(header, 56)));
}

TEST(Chunk, HeaderByteForByte) {
  ChunkHeader h{.dump = dump,
                .index = 2,
                .kind = ChunkKind::core,
                .position = 0x100000,
                .plain_size = 0x1000,
                .stored_size = 0x20,
                .stored_crc = 0x01020304};
  auto bytes = encode_chunk_header(h);
  EXPECT_EQ(to_hex(bytes),
            "4455455443484e4bb8b7b6b5b4b3b2b107000000000000000200000002000000"
            "000010000000000000100000200000000403020100000000318fc49900000000");
  EXPECT_EQ(*decode_chunk_header(bytes), h);
  EXPECT_EQ(chunk_size(h), 4096U);
  h.stored_size = 4096 - chunk_header_size;
  EXPECT_EQ(chunk_size(h), 4096U);
  ++h.stored_size;
  EXPECT_EQ(chunk_size(h), 8192U);
}

TEST(Chunk, EveryFlippedBitOfAHeaderIsNoticed) {
  auto bytes = encode_chunk_header({.dump = dump, .plain_size = 1, .stored_size = 1});
  for (std::size_t i = 0; i < bytes.size() * 8; ++i) {
    bytes[i / 8] ^= static_cast<std::byte>(1 << (i % 8));
    EXPECT_FALSE(decode_chunk_header(bytes)) << i;
    bytes[i / 8] ^= static_cast<std::byte>(1 << (i % 8));
  }
  EXPECT_FALSE(decode_chunk_header(Bytes(bytes).first(63)));
}

TEST(Chunk, HeaderRulesHoldBehindARightChecksum) {
  auto spoiled = [](std::size_t offset, std::uint32_t value, ChunkKind kind = ChunkKind::core) {
    ChunkHeader h{.dump = dump, .kind = kind};
    if (kind != ChunkKind::end) h.plain_size = h.stored_size = 1;
    auto bytes = encode_chunk_header(h);
    store_le(bytes.data() + offset, value);
    fix_crc(bytes.data());
    return decode_chunk_header(bytes).has_value();
  };
  EXPECT_TRUE(spoiled(28, 2));
  EXPECT_FALSE(spoiled(28, 0));
  EXPECT_FALSE(spoiled(28, 4));
  EXPECT_FALSE(spoiled(28, 0x102));  // a reserved byte
  EXPECT_FALSE(spoiled(40, 0));
  EXPECT_FALSE(spoiled(40, max_plain_size + 1));
  EXPECT_FALSE(spoiled(44, 0));
  EXPECT_FALSE(spoiled(44, max_stored_size + 1));
  EXPECT_FALSE(spoiled(52, 1));
  EXPECT_FALSE(spoiled(60, 1));
  EXPECT_FALSE(spoiled(40, 1, ChunkKind::end));
  EXPECT_FALSE(spoiled(44, 1, ChunkKind::end));
}

TEST(RawDump, IsReadBack) {
  auto w = write();
  auto r = read(w.raw);
  EXPECT_EQ(r.phase, ChunkReader::Phase::complete);
  EXPECT_EQ(r.core, w.core);
  EXPECT_EQ(r.information, noise(300, 3));
  EXPECT_EQ(r.raw_done, w.raw.size());
  EXPECT_LT(w.raw.size(), max_plain_size + 100'000);  // zeros cost nothing
}

TEST(RawDump, QuickerIsLargerAndReadsTheSame) {
  Buffer plain;  // pointers, as in memory
  std::uint64_t seed = 1;
  while (plain.size() < max_plain_size) {
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    std::array<std::byte, 8> pointer{};
    store_le(pointer.data(), std::uint64_t{0x7f0000000000} + (seed >> 48) * 16);
    plain.insert(plain.end(), pointer.begin(), pointer.end());
  }
  Buffer raw;
  Buffer core;
  std::vector<std::size_t> sizes;
  auto writer = *ChunkWriter::make(dump, room);
  ASSERT_TRUE(put(*writer, raw, ChunkKind::information, text("x")));
  for (int effort = 0; effort < ChunkWriter::efforts; ++effort) {
    const auto before = raw.size();
    ASSERT_TRUE(put(*writer, raw, ChunkKind::core, plain, effort));
    sizes.push_back(raw.size() - before);
    core.insert(core.end(), plain.begin(), plain.end());
  }
  end(*writer, raw);
  EXPECT_LT(sizes.front(), sizes.back() / 2);
  EXPECT_EQ(read(raw).core, core);
}

TEST(RawDump, WithoutItsEndIsTruncated) {
  auto w = write(false);
  auto r = read(w.raw);
  EXPECT_EQ(r.phase, ChunkReader::Phase::truncated);
  EXPECT_EQ(r.reason, "no chunk");
  EXPECT_EQ(r.core, w.core);
}

TEST(RawDump, CutOffAnywhereItsPrefixStaysReadable) {
  auto w = write();
  for (std::size_t cut = 0; cut < w.raw.size(); cut += 4096 * 13) {
    Buffer raw(w.raw.begin(), w.raw.begin() + static_cast<std::ptrdiff_t>(cut));
    auto r = read(raw);
    EXPECT_EQ(r.phase, ChunkReader::Phase::truncated) << cut;
    expect_prefix(r, w);
  }
  auto before_last = w.starts[w.starts.size() - 2];
  Buffer raw(w.raw.begin(), w.raw.begin() + static_cast<std::ptrdiff_t>(before_last));
  EXPECT_EQ(read(raw).core, w.core);
}

TEST(RawDump, ADamagedChunkEndsIt) {
  auto w = write();
  for (std::size_t i = 0; i + 1 < w.starts.size(); ++i) {
    for (std::size_t at : {w.starts[i], w.starts[i] + 40, w.starts[i] + 70, w.starts[i + 1] - 1}) {
      auto raw = w.raw;
      raw[at] ^= std::byte{0x10};
      auto r = read(raw);
      EXPECT_EQ(r.phase, ChunkReader::Phase::truncated) << at;
      EXPECT_EQ(r.raw_done, w.starts[i]) << at;
      expect_prefix(r, w);
    }
  }
}

TEST(RawDump, ChunksOfAnotherDumpOrOutOfTurnEndIt) {
  auto w = write();
  EXPECT_EQ(read(w.raw, room, {BootNonce(1), dump.epoch}).reason, "a chunk of another dump");
  EXPECT_EQ(read(w.raw, room, {dump.boot_nonce, Epoch(6)}).reason, "a chunk of another dump");
  auto with = [&](std::size_t chunk, std::size_t offset, std::uint32_t value) {
    auto raw = w.raw;
    store_le(raw.data() + w.starts[chunk] + offset, value);
    fix_crc(raw.data() + w.starts[chunk]);
    return read(raw).reason;
  };
  EXPECT_EQ(with(3, 24, 4), "a chunk out of turn");
  EXPECT_EQ(with(3, 32, 1), "a chunk of another position");
  EXPECT_EQ(with(3, 28, 1), "a chunk of a kind that has no place here");
  EXPECT_EQ(with(0, 28, 2), "a chunk of a kind that has no place here");
  EXPECT_EQ(with(3, 40, 2), "a chunk that does not unpack");  // one byte, says two
}

TEST(RawDump, AFrameThatIsNoneEndsIt) {
  auto w = write();
  std::byte* chunk = w.raw.data() + w.starts[4];
  auto size = load_le<std::uint32_t>(chunk + 44);
  chunk[chunk_header_size + size / 2] ^= std::byte{1};
  store_le(chunk + 48, crc32c(Bytes(chunk + chunk_header_size, size)));
  fix_crc(chunk);
  EXPECT_EQ(read(w.raw).reason, "a chunk that does not unpack");
}

TEST(RawDump, TheReaderStaysInTheRoom) {
  auto w = write();
  EXPECT_EQ(read(w.raw, w.raw.size()).phase, ChunkReader::Phase::complete);
  for (std::uint64_t less : {w.raw.size() - 4096, w.starts[1] + 8192, std::uint64_t{4096}}) {
    auto r = read(w.raw, less);
    EXPECT_EQ(r.reason, "the room ends") << less;
    expect_prefix(r, w);
  }
  EXPECT_EQ((*ChunkReader::make(dump, 0))->phase(), ChunkReader::Phase::truncated);
}

TEST(RawDump, UnreadableBlocksEndIt) {
  auto reader = *ChunkReader::make(dump, room);
  reader->on_unreadable("medium error");
  EXPECT_EQ(reader->phase(), ChunkReader::Phase::truncated);
  EXPECT_EQ(reader->reason(), "medium error");
}

TEST(RawDump, AChunkThatChangesBetweenTwoReadsEndsIt) {
  auto w = write();
  auto reader = *ChunkReader::make(dump, room);
  EXPECT_TRUE(reader->on_bytes(Bytes(w.raw).first(4096)));
  EXPECT_FALSE(reader->on_bytes(Bytes(w.raw).subspan(w.starts[1], 4096)));
  Buffer changed(reader->next().size);
  EXPECT_GT(changed.size(), max_plain_size);
  EXPECT_FALSE(reader->on_bytes(changed));
  EXPECT_EQ(reader->reason(), "a chunk that changes while it is read");
}

TEST(RawDump, AFullDiskStillTakesTheEnd) {
  constexpr std::uint64_t small = 64 * 1024;
  auto writer = *ChunkWriter::make(dump, small);
  Buffer raw;
  ASSERT_TRUE(put(*writer, raw, ChunkKind::information, text("x")));
  const Buffer plain = noise(5000);
  Status room_left;
  while (room_left) room_left = put(*writer, raw, ChunkKind::core, plain);
  EXPECT_EQ(room_left.error().code, ErrorCode::no_space);
  end(*writer, raw);
  EXPECT_EQ(raw.size(), small);
  auto r = read(raw, small);
  EXPECT_EQ(r.phase, ChunkReader::Phase::complete);
  EXPECT_EQ(r.core.size(), writer->core_done());
  EXPECT_FALSE(ChunkWriter::make(dump, 4095));
}

}  // namespace
}  // namespace duet::coredump
