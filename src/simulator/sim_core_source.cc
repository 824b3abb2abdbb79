#include "simulator/sim_core_source.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "simulator/durations.h"

namespace duet::simulator {
namespace {

constexpr Duration stop_min = milliseconds(1), stop_max = seconds(1);
constexpr std::size_t page_size = 4096, cell_size = 64;

}  // namespace

SimCoreSource::SimCoreSource(Process& supervisor, std::uint64_t seed)
    : supervisor_(supervisor), random_(seed) {}

// Pages of zeros, pages that can be compressed; or nothing that can.
void SimCoreSource::fill() {
  auto& bytes = memory_->bytes;
  if (random_.chance(1, large_out_of)) {
    piece_size_ = large_piece_size;
    bytes.resize(large_pieces * large_piece_size);
    for (std::size_t at = 0; at < bytes.size(); at += sizeof(std::uint64_t)) {
      store_le(&bytes[at], random_.next());
    }
    return;
  }
  bytes.resize((1 + random_.below(max_pieces)) * piece_size);
  for (std::size_t page = 0; page < bytes.size(); page += page_size) {
    if (random_.chance(1, 3)) continue;
    for (std::size_t at = page; at < page + page_size; at += cell_size) {
      bytes[at] = static_cast<std::byte>(random_.below(256));
    }
  }
}

// An error if the process has ended by then.
void SimCoreSource::later(Duration time, std::function<void(const Status&)> then) {
  supervisor_.at(supervisor_.now() + time, [this, alive = alive_, then = std::move(then)] {
    if (*alive && !ended_) return then({});
    then(fail(ErrorCode::not_found, "the engine has ended"));
  });
}

void SimCoreSource::stop(ports::Done<void> done) {
  later(log_uniform(random_, stop_min, stop_max),
        [this, done = std::make_shared<ports::Done<void>>(std::move(done))](const Status& alive) {
          if (alive) stopped_ = true;  // else we may be gone
          (*done)(alive);
        });
}

void SimCoreSource::begin(Dump dump) {
  memory_->node = dump.node;
  memory_->boot = dump.boot_nonce;
  memory_->epoch = dump.epoch;
  fill();
  piece_time_ = log_uniform(random_, piece_min, piece_max);
  if (on_begin) on_begin(memory_);
  auto made = coredump::DumpWriter::make(coredump::information_of(dump), dump.room,
                                         memory_->bytes.size(), coredump::read_from(memory_->bytes),
                                         {.chunk = piece_size_, .size = 1, .chunks = 1});
  ASSERT(made.has_value());
  writer_ = std::move(*made);
}

void SimCoreSource::next(ports::Done<Piece> done) {
  later(piece_time_,
        [this, done = std::make_shared<ports::Done<Piece>>(std::move(done))](const Status& alive) {
          (*done)(alive ? writer_->next(0) : Result<Piece>(std::unexpected(alive.error())));
        });
}

}  // namespace duet::simulator
