#include "coredump/dump_writer.h"

#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "coredump/chunk_reader.h"
#include "coredump/noise_fixture.h"

namespace duet::coredump {
namespace {

constexpr std::uint64_t room = 64 * 1024 * 1024;

Information said() {
  Information i;
  i.node = NodeId(1);
  i.epoch = Epoch(7);
  i.boot_nonce = BootNonce(5);
  i.reason = "a test";
  return i;
}

// Pieces until the last one, or an error.
struct Dumped {
  std::vector<DumpWriter::Piece> pieces;
  Buffer raw;
  std::optional<Error> error;
};
Dumped dump(DumpWriter& writer, int effort = 0) {
  Dumped out;
  do {
    auto piece = writer.next(effort);
    if (!piece) {
      out.error = piece.error();
      break;
    }
    out.raw.insert(out.raw.end(), piece->blocks.bytes.begin(), piece->blocks.bytes.end());
    out.pieces.push_back(std::move(*piece));
  } while (!out.pieces.back().last);
  return out;
}

struct Read {
  ChunkReader::Phase phase = ChunkReader::Phase::reading;
  std::optional<Information> information;
  Buffer core;
};
Read read(Buffer raw) {
  Read out;
  const auto i = said();
  auto reader = *ChunkReader::make({i.boot_nonce, i.epoch}, room);
  raw.resize(raw.size() + disk::area_block_size);  // what was on the disk before
  while (reader->phase() == ChunkReader::Phase::reading) {
    auto part = reader->on_bytes(Bytes(raw).subspan(reader->next().offset, reader->next().size));
    if (!part) continue;
    if (part->kind == ChunkKind::information) {
      out.information = *decode_information(part->plain);
    } else {
      out.core.insert(out.core.end(), part->plain.begin(), part->plain.end());
    }
  }
  out.phase = reader->phase();
  return out;
}

TEST(DumpWriter, WhatItMakesIsReadBack) {
  const auto core = noise(5'000'001);
  auto writer = *DumpWriter::make(said(), room, core.size(), read_from(core));
  const auto dumped = dump(*writer);
  ASSERT_FALSE(dumped.error);
  const auto found = read(dumped.raw);
  EXPECT_EQ(found.phase, ChunkReader::Phase::complete);
  EXPECT_EQ(found.information, said());
  EXPECT_EQ(found.core, core);
}

TEST(DumpWriter, PiecesAreLargeAndSayHowFarTheyGet) {
  const auto core = noise(5 * 1024 * 1024);
  auto writer = *DumpWriter::make(said(), room, core.size(), read_from(core));
  const auto dumped = dump(*writer);
  std::uint64_t before = 0;
  for (const auto& piece : dumped.pieces) {
    EXPECT_EQ(piece.core_total, core.size());
    EXPECT_GE(piece.core_done, before);
    EXPECT_EQ(piece.last, &piece == &dumped.pieces.back());
    if (!piece.last) EXPECT_GE(piece.blocks.bytes.size(), 1024U * 1024U);
    before = piece.core_done;
  }
  EXPECT_EQ(before, core.size());
}

TEST(DumpWriter, OfWhatBecomesLittleAPieceHasNotTooMuch) {
  constexpr DumpWriter::Limits limits;
  const Buffer core(3 * limits.chunks * limits.chunk);
  auto writer = *DumpWriter::make(said(), room, core.size(), read_from(core));
  const auto dumped = dump(*writer);
  EXPECT_EQ(dumped.pieces.front().core_done, (limits.chunks - 1) * limits.chunk);  // information
  EXPECT_EQ(dumped.pieces.size(), 4U);
}

TEST(DumpWriter, WithLimitsOfOneEachChunkIsAPiece) {
  const auto core = noise(100);
  auto writer = *DumpWriter::make(said(), room, core.size(), read_from(core),
                                  {.chunk = 40, .size = 1, .chunks = 1});
  std::vector<std::uint64_t> done;
  for (const auto& piece : dump(*writer).pieces) done.push_back(piece.core_done);
  EXPECT_EQ(done, (std::vector<std::uint64_t>{0, 40, 80, 100, 100}));
}

TEST(DumpWriter, AFullDiskEndsItBehindWhatFits) {
  const auto core = noise(5 * 1024 * 1024);
  constexpr std::uint64_t small = 3 * 1024 * 1024;
  auto writer = *DumpWriter::make(said(), small, core.size(), read_from(core));
  const auto dumped = dump(*writer);
  ASSERT_TRUE(dumped.error);
  EXPECT_EQ(dumped.error->code, ErrorCode::no_space);
  EXPECT_LE(dumped.raw.size(), small);
  EXPECT_EQ(writer->next(0).error().code, ErrorCode::no_space);
  const auto found = read(dumped.raw);
  EXPECT_EQ(found.phase, ChunkReader::Phase::truncated);
  EXPECT_EQ(found.core.size(), dumped.pieces.back().core_done);
  EXPECT_GT(found.core.size(), small - 2 * DumpWriter::Limits().chunk);
  EXPECT_TRUE(std::ranges::equal(found.core, Bytes(core).first(found.core.size())));
}

TEST(DumpWriter, WhereThereIsLittleRoomSmallComesBeforeQuick) {
  Buffer core = noise(4 * max_plain_size);
  for (auto& b : core) b &= std::byte{3};  // that only the hardest effort makes much smaller
  auto stored = [&](std::uint64_t space, int effort) {
    return dump(**DumpWriter::make(said(), space, core.size(), read_from(core)), effort).raw.size();
  };
  constexpr int quickest = ChunkWriter::efforts - 1;
  const auto least = stored(room, 0);
  EXPECT_GT(stored(room, quickest), least + least / 4);
  EXPECT_EQ(stored(least, quickest), least);
}

TEST(DumpWriter, BuffersAreUsedAgainWhenTheirSlicesAreGone) {
  const auto core = noise(20 * max_plain_size);
  auto writer = *DumpWriter::make(said(), room, core.size(), read_from(core));
  std::set<const std::byte*> places;
  auto held = *writer->next(0);
  const Buffer before(held.blocks.bytes.begin(), held.blocks.bytes.end());
  for (bool last = false; !last;) {
    auto piece = *writer->next(0);
    last = piece.last;
    EXPECT_NE(piece.blocks.bytes.data(), held.blocks.bytes.data());
    places.insert(piece.blocks.bytes.data());
    std::thread([blocks = std::move(piece.blocks)]() mutable { blocks = {}; }).join();
  }
  EXPECT_EQ(places.size(), 1U);
  writer.reset();
  EXPECT_TRUE(std::ranges::equal(held.blocks.bytes, before));
}

TEST(DumpWriter, WithoutRoomThereIsNone) {
  EXPECT_EQ(DumpWriter::make(said(), 4095, 0, read_from({})).error().code, ErrorCode::no_space);
}

}  // namespace
}  // namespace duet::coredump
