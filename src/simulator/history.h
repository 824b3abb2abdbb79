// What the clients asked for and what they were told, block by block, and whether it can have
// happened: each block is judged (linearizability.h) whenever nothing is under way on it.
//
// An attempt is one command on its way; a client that has lost its session gives its attempts up at
// its next login, because from then on they have no effect any more (RFC 7143 6.3.5: the new
// session ends the tasks of the old one), and begins new ones.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "simulator/linearizability.h"

namespace duet::simulator {

inline constexpr std::uint32_t block_size = 512;  // a logical block: what is atomic

using AttemptId = std::uint64_t;

struct BlockRange {
  NodeId identity;
  std::uint16_t lun = 0;
  std::uint64_t first = 0;
  std::uint32_t count = 1;
  bool operator==(const BlockRange&) const = default;
};

// Content of a block that bears `stamp`: names its place too, so that a misplaced block shows.
void fill_block(MutableBytes block, Stamp stamp, const BlockRange& range, std::uint64_t number);
// Nothing: neither zeros nor what fill_block makes for this place.
std::optional<Stamp> read_block(Bytes block, const BlockRange& range, std::uint64_t number);

class History {
 public:
  using Violate = std::function<void(const std::string& invariant, std::string what)>;
  explicit History(Violate violate) : violate_(std::move(violate)) {}

  // Unique, and tells the client: client in the high 16 bits.
  Stamp fresh_stamp(std::uint16_t client) {
    return (std::uint64_t{client} + 1) << 48 | ++last_stamp_;
  }

  AttemptId begin_read(std::uint16_t client, const BlockRange& range, Instant now);
  AttemptId begin_write(std::uint16_t client, const BlockRange& range, Stamp value, Instant now);
  // Of one block after the other: `expected` has one stamp for each.
  AttemptId begin_compare_and_write(std::uint16_t client, const BlockRange& range,
                                    std::vector<Stamp> expected, Stamp value, Instant now);

  // ---- ends of an attempt ----
  void good(AttemptId attempt, Instant now);  // write, compare and write
  void good_read(AttemptId attempt, Bytes data, Instant now);
  void mismatch(AttemptId attempt, std::uint32_t block, Instant now);  // which one differed
  void refused(AttemptId attempt);                // certainly without any effect
  void given_up(AttemptId attempt, Instant now);  // no effect from now on

  // At the end: judges everything, what is still under way may have happened or not.
  void finish();

  std::uint64_t operations() const { return operations_; }
  std::uint64_t undecided_blocks() const;
  std::uint64_t attempts_open() const { return attempts_.size(); }

 private:
  struct Key {
    std::uint32_t unit;  // identity and LUN
    std::uint64_t block;
    auto operator<=>(const Key&) const = default;
  };
  struct Block {
    BlockStates states;
    std::vector<Operation> window;  // since the block was last quiet
    std::vector<Operation> before;  // the last of those judged, for the report
    unsigned open = 0;
  };
  struct Attempt {
    BlockRange range;
    Operation::Kind kind = Operation::Kind::read;
    std::uint16_t client = 0;
    Stamp value = 0;
    std::vector<Stamp> expected = {};
    Tick begun = 0;
    Instant begun_at{};
  };

  AttemptId begin(Attempt attempt, Instant now);
  Attempt take(AttemptId id);
  Key key(const BlockRange& range, std::uint32_t i) const {
    return {static_cast<std::uint32_t>(range.identity.value()) << 16 | range.lun, range.first + i};
  }
  void record(const Attempt& attempt, std::uint32_t i, Operation operation);
  void close(const Attempt& attempt, std::uint32_t i);
  void judge(const Key& key, Block& block);
  static Operation operation_of(const Attempt& attempt, Tick ended, Instant now);

  Violate violate_;
  std::map<Key, Block> blocks_;
  std::unordered_map<AttemptId, Attempt> attempts_;
  AttemptId last_attempt_ = 0;
  Stamp last_stamp_ = 0;
  Tick tick_ = 0;
  std::uint64_t operations_ = 0;
};

}  // namespace duet::simulator
