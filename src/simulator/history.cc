#include "simulator/history.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace duet::simulator {
namespace {

constexpr std::size_t reported_before = 12;
constexpr std::size_t words_per_block = block_size / sizeof(std::uint64_t);

std::uint64_t place_of(const BlockRange& range, std::uint64_t number) {
  return (std::uint64_t{range.identity.value()} << 56 | std::uint64_t{range.lun} << 40 | number) *
         0x9e3779b97f4a7c15;
}

// I14: would it do if COMPARE AND WRITE were allowed to execute again and again? Then that is what
// happened.
bool explained_by_repetition(const std::vector<Operation>& window, BlockStates states) {
  std::vector<Operation> looser = window;
  for (std::size_t i = 0; i < window.size(); ++i) {
    if (window[i].kind != Operation::Kind::compare_and_write) continue;
    Operation again = window[i];
    again.perhaps = true;
    again.ended = never;
    looser.push_back(again);
    looser.back().begun = window[i].begun;
  }
  return looser.size() > window.size() && !states.check(looser) && !states.undecided();
}

}  // namespace

void fill_block(MutableBytes block, Stamp stamp, const BlockRange& range, std::uint64_t number) {
  ASSERT(block.size() == block_size);
  std::uint64_t words[words_per_block];
  const std::uint64_t rest = stamp ^ place_of(range, number);
  std::ranges::fill(words, rest);
  words[0] = stamp;
  std::memcpy(block.data(), words, sizeof words);
}

std::optional<Stamp> read_block(Bytes block, const BlockRange& range, std::uint64_t number) {
  ASSERT(block.size() == block_size);
  std::uint64_t words[words_per_block];
  std::memcpy(words, block.data(), sizeof words);
  const std::uint64_t rest = words[0] == 0 ? 0 : words[0] ^ place_of(range, number);
  for (std::size_t i = 1; i < words_per_block; ++i) {
    if (words[i] != rest) return {};
  }
  return words[0];
}

AttemptId History::begin(Attempt attempt, Instant now) {
  attempt.begun = ++tick_;
  attempt.begun_at = now;
  for (std::uint32_t i = 0; i < attempt.range.count; ++i) ++blocks_[key(attempt.range, i)].open;
  attempts_.emplace(++last_attempt_, std::move(attempt));
  ++operations_;
  return last_attempt_;
}

AttemptId History::begin_read(std::uint16_t client, const BlockRange& range, Instant now) {
  return begin({.range = range, .kind = Operation::Kind::read, .client = client}, now);
}
AttemptId History::begin_write(std::uint16_t client, const BlockRange& range, Stamp value,
                               Instant now) {
  return begin({.range = range, .kind = Operation::Kind::write, .client = client, .value = value},
               now);
}
AttemptId History::begin_compare_and_write(std::uint16_t client, const BlockRange& range,
                                           std::vector<Stamp> expected, Stamp value, Instant now) {
  ASSERT(expected.size() == range.count);
  return begin({.range = range,
                .kind = Operation::Kind::compare_and_write,
                .client = client,
                .value = value,
                .expected = std::move(expected)},
               now);
}

History::Attempt History::take(AttemptId id) {
  auto found = attempts_.find(id);
  ASSERT(found != attempts_.end());
  Attempt attempt = std::move(found->second);
  attempts_.erase(found);
  ++tick_;
  return attempt;
}

Operation History::operation_of(const Attempt& attempt, Tick ended, Instant now) {
  return {.kind = attempt.kind,
          .client = attempt.client,
          .value = attempt.value,
          .begun = attempt.begun,
          .ended = ended,
          .begun_at = attempt.begun_at,
          .ended_at = now};
}

void History::record(const Attempt& attempt, std::uint32_t i, Operation operation) {
  if (attempt.kind == Operation::Kind::compare_and_write &&
      operation.kind != Operation::Kind::read) {
    operation.expected = attempt.expected[i];
  }
  blocks_[key(attempt.range, i)].window.push_back(operation);
}

void History::close(const Attempt& attempt, std::uint32_t i) {
  const Key k = key(attempt.range, i);
  Block& block = blocks_[k];
  ASSERT(block.open > 0);
  --block.open;
  if (block.open == 0) judge(k, block);
}

void History::good(AttemptId id, Instant now) {
  const Attempt attempt = take(id);
  for (std::uint32_t i = 0; i < attempt.range.count; ++i) {
    record(attempt, i, operation_of(attempt, tick_, now));
    close(attempt, i);
  }
}

void History::good_read(AttemptId id, Bytes data, Instant now) {
  const Attempt attempt = take(id);
  ASSERT(data.size() == std::size_t{attempt.range.count} * block_size);
  for (std::uint32_t i = 0; i < attempt.range.count; ++i) {
    const std::uint64_t number = attempt.range.first + i;
    auto stamp =
        read_block(data.subspan(std::size_t{i} * block_size, block_size), attempt.range, number);
    if (stamp) {
      Operation read = operation_of(attempt, tick_, now);
      read.value = *stamp;
      record(attempt, i, read);
    } else {
      const std::byte* at = data.data() + std::size_t{i} * block_size;
      violate_("I13",
               fmt::format("client {} read from identity {} LUN {} block {} what nobody "
                           "wrote there: {:016x} {:016x} ... {:016x}",
                           attempt.client, attempt.range.identity.value(), attempt.range.lun,
                           number, load_le<std::uint64_t>(at), load_le<std::uint64_t>(at + 8),
                           load_le<std::uint64_t>(at + block_size - 8)));
    }
    close(attempt, i);
  }
}

void History::mismatch(AttemptId id, std::uint32_t differs, Instant now) {
  const Attempt attempt = take(id);
  for (std::uint32_t i = 0; i < attempt.range.count; ++i) {
    if (i <= differs) {
      Operation operation = operation_of(attempt, tick_, now);
      operation.kind = i == differs ? Operation::Kind::mismatch : Operation::Kind::read;
      operation.value = attempt.expected[i];
      record(attempt, i, operation);
    }
    close(attempt, i);
  }
}

void History::refused(AttemptId id) {
  const Attempt attempt = take(id);
  for (std::uint32_t i = 0; i < attempt.range.count; ++i) close(attempt, i);
}

void History::given_up(AttemptId id, Instant now) {
  const Attempt attempt = take(id);
  for (std::uint32_t i = 0; i < attempt.range.count; ++i) {
    if (attempt.kind != Operation::Kind::read) {
      Operation operation = operation_of(attempt, tick_, now);
      operation.perhaps = true;
      record(attempt, i, operation);
    }
    close(attempt, i);
  }
}

void History::finish() {
  while (!attempts_.empty()) {
    const Attempt attempt = take(attempts_.begin()->first);
    for (std::uint32_t i = 0; i < attempt.range.count; ++i) {
      if (attempt.kind != Operation::Kind::read) {
        Operation operation = operation_of(attempt, never, attempt.begun_at);
        operation.perhaps = true;
        record(attempt, i, operation);
      }
      close(attempt, i);
    }
  }
}

std::uint64_t History::undecided_blocks() const {
  return static_cast<std::uint64_t>(std::ranges::count_if(
      blocks_, [](const auto& entry) { return entry.second.states.undecided(); }));
}

void History::judge(const Key& key, Block& block) {
  std::vector<Operation> window = std::exchange(block.window, {});
  const BlockStates before = block.states;
  auto contradiction = block.states.check(window);
  if (contradiction) {
    const char* invariant = explained_by_repetition(window, before) ? "I14" : "I13";
    std::string what = fmt::format(
        "identity {} LUN {} block {}: no order of the operations explains: {}; the block may have "
        "held",
        key.unit >> 16, key.unit & 0xffff, key.block, describe(window[contradiction->operation]));
    for (Stamp stamp : contradiction->candidates) what += fmt::format(" {:x}", stamp);
    what += "\n  before:";
    for (const Operation& o : block.before) what += "\n    " + describe(o);
    what += "\n  together:";
    for (const Operation& o : window) what += "\n    " + describe(o);
    violate_(invariant, std::move(what));
  }
  block.before.insert(block.before.end(), window.begin(), window.end());
  if (block.before.size() > reported_before) {
    block.before.erase(block.before.begin(),
                       block.before.end() - static_cast<long>(reported_before));
  }
}

}  // namespace duet::simulator
