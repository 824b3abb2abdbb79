// For tests: an engine's memory of so many bytes, as the raw dump of it.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coredump/chunk_reader.h"
#include "coredump/dump_writer.h"
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
    writer_ = std::move(*coredump::DumpWriter::make(
        coredump::information_of(order), order.room, memory.size(), coredump::read_from(memory),
        {.chunk = coredump::max_plain_size, .size = 1, .chunks = 1}));
  }
  void next(ports::Done<Piece> done) override {
    scheduler_.at(scheduler_.now() + piece_time, [this, done = std::move(done)]() mutable {
      if (broken) return done(std::unexpected(*broken));
      done(writer_->next(0));
    });
  }

 private:
  static std::vector<std::byte> random_bytes(std::size_t n) {
    simulation::Random random(7);
    std::vector<std::byte> out(n);
    for (auto& b : out) b = static_cast<std::byte>(random.below(256));
    return out;
  }
  ports::Scheduler& scheduler_;
  std::unique_ptr<coredump::DumpWriter> writer_;
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
