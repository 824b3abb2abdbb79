// A set of blocks of a pool: a bit per block, in pieces, so that the memory follows what is in it.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <functional>
#include <map>

#include "raid/address.h"

namespace duet::pool {

class BlockSet {
 public:
  // False: was there already.
  bool insert(raid::BlockAddress address) {
    std::uint64_t& word = pieces_[address.value / piece_bits][word_of(address)];
    if ((word & bit_of(address)) != 0) return false;
    word |= bit_of(address);
    ++size_;
    return true;
  }
  // False: was not there.
  bool erase(raid::BlockAddress address) {
    auto found = pieces_.find(address.value / piece_bits);
    if (found == pieces_.end()) return false;
    std::uint64_t& word = found->second[word_of(address)];
    if ((word & bit_of(address)) == 0) return false;
    word &= ~bit_of(address);
    --size_;
    return true;
  }
  bool contains(raid::BlockAddress address) const {
    auto found = pieces_.find(address.value / piece_bits);
    return found != pieces_.end() && (found->second[word_of(address)] & bit_of(address)) != 0;
  }
  // In ascending order.
  void for_each(const std::function<void(raid::BlockAddress)>& visit) const {
    for (const auto& [number, piece] : pieces_) {
      for (std::size_t i = 0; i < piece.size(); ++i) {
        for (std::uint64_t word = piece[i]; word != 0; word &= word - 1) {
          visit(raid::BlockAddress(number * piece_bits + i * 64 +
                                   static_cast<std::uint64_t>(std::countr_zero(word))));
        }
      }
    }
  }
  void clear() {
    pieces_.clear();
    size_ = 0;
  }
  std::uint64_t size() const { return size_; }

 private:
  static constexpr std::uint64_t piece_bits = 4096;
  static std::size_t word_of(raid::BlockAddress a) { return a.value % piece_bits / 64; }
  static std::uint64_t bit_of(raid::BlockAddress a) { return std::uint64_t{1} << a.value % 64; }

  std::map<std::uint64_t, std::array<std::uint64_t, piece_bits / 64>> pieces_;
  std::uint64_t size_ = 0;
};

}  // namespace duet::pool
