// For tests: an engine's memory of so many bytes, as the raw dump of it.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coredump/chunk_reader.h"
#include "coredump/chunk_writer.h"
#include "coredump/information.h"
#include "ports/core_source.h"
#include "simulation/fake_disk.h"
#include "simulation/random.h"

namespace duet::node {

class FakeCoreSource final : public ports::CoreSource {
 public:
  explicit FakeCoreSource(ports::Scheduler& scheduler) : scheduler_(scheduler) {}

  std::vector<std::byte> memory = random_bytes(5 << 20);
  Duration stop_time = milliseconds(20), piece_time = milliseconds(5);
  std::optional<Error> cannot_stop, broken;  // broken: next() fails with it
  bool stops = true;                         // else: stop() never ends
  int stopped = 0, begun = 0;
  std::optional<Dump> dump;

  void stop(ports::Done<void> done) override {
    ++stopped;
    if (!stops) return held_.push_back(std::move(done));
    scheduler_.at(scheduler_.now() + stop_time, [this, done = std::move(done)]() mutable {
      done(cannot_stop ? Result<void>(std::unexpected(*cannot_stop)) : Result<void>());
    });
  }
  void begin(Dump order) override {
    ++begun;
    dump = order;
    writer_ = std::move(*coredump::ChunkWriter::make({order.boot_nonce, order.epoch}, order.room));
    told_ = false;
  }
  void next(ports::Done<Piece> done) override {
    scheduler_.at(scheduler_.now() + piece_time, [this, done = std::move(done)]() mutable {
      if (broken) return done(std::unexpected(*broken));
      done(piece());
    });
  }

 private:
  static std::vector<std::byte> random_bytes(std::size_t n) {
    simulation::Random random(7);
    std::vector<std::byte> out(n);
    for (auto& b : out) b = static_cast<std::byte>(random.below(256));
    return out;
  }
  Result<Piece> piece() {
    Piece p;
    p.core_total = memory.size();
    if (writer_->core_done() == memory.size()) {
      auto blocks = writer_->end();
      p.blocks.assign(blocks.begin(), blocks.end());
      p.last = true;
    } else {
      auto plain = Bytes(memory).subspan(writer_->core_done());
      plain = plain.first(std::min(plain.size(), coredump::max_plain_size));
      std::vector<std::byte> information;
      auto kind = coredump::ChunkKind::core;
      if (!std::exchange(told_, true)) {
        coredump::Information said;
        said.node = dump->node;
        said.epoch = dump->epoch;
        said.boot_nonce = dump->boot_nonce;
        said.log_written = dump->log_written;
        said.log_freed = dump->log_freed;
        said.reason = dump->reason;
        information = coredump::encode_information(said);
        plain = information;
        kind = coredump::ChunkKind::information;
      }
      auto blocks = writer_->put(kind, plain);
      if (!blocks) return std::unexpected(blocks.error());
      p.blocks.assign(blocks->begin(), blocks->end());
    }
    p.core_done = writer_->core_done();
    return p;
  }

  ports::Scheduler& scheduler_;
  std::unique_ptr<coredump::ChunkWriter> writer_;
  bool told_ = false;
  std::vector<ports::Done<void>> held_;
};

// What a reader finds on a medium.
struct DumpFound {
  Result<coredump::Header> header;
  bool complete = false;
  std::vector<std::byte> core;
  std::optional<coredump::Information> information;
};

inline DumpFound find_dump(const simulation::FakeMedium& medium) {
  auto copy = [&](int n) {
    return medium.peek(coredump::header_copy(n).offset, disk::area_block_size);
  };
  DumpFound found{coredump::choose_header(copy(0), copy(1)), false, {}, {}};
  if (!found.header) return found;
  auto reader = std::move(*coredump::ChunkReader::make(
      {found.header->boot_nonce, found.header->epoch}, found.header->room));
  while (reader->phase() == coredump::ChunkReader::Phase::reading) {
    auto next = reader->next();
    auto part = reader->on_bytes(medium.peek(disk::data_offset + next.offset, next.size));
    if (!part) continue;
    if (part->kind == coredump::ChunkKind::core) {
      found.core.insert(found.core.end(), part->plain.begin(), part->plain.end());
    } else if (auto said = coredump::decode_information(part->plain)) {
      found.information = std::move(*said);
    }
  }
  found.complete = reader->phase() == coredump::ChunkReader::Phase::complete;
  return found;
}

}  // namespace duet::node
