// The arithmetic of a stripe. Columns: data members by role, then P, then Q. P is the sum (xor) of
// the data columns; Q weighs column i with g^i, g = 2, in the field of 2^8 elements modulo
// x^8 + x^4 + x^3 + x^2 + 1. Blocks need no alignment; a null block is zeros.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "raid/layout.h"

namespace duet::raid {

inline constexpr std::uint32_t max_columns = max_group_data + 2;
using ColumnMask = std::uint32_t;  // bit i: column i
static_assert(max_columns <= 32);

struct Geometry {
  std::uint32_t data = 0;    // columns 0 .. data - 1
  std::uint32_t parity = 0;  // columns data (P), data + 1 (Q)

  std::uint32_t columns() const { return data + parity; }
  ColumnMask data_mask() const { return (ColumnMask{1} << data) - 1; }
  ColumnMask parity_mask() const { return ((ColumnMask{1} << parity) - 1) << data; }
  ColumnMask all() const { return data_mask() | parity_mask(); }
};

// A sum of blocks as P and Q weigh them.
class ParitySum {
 public:
  void add(std::uint32_t data_column, const std::byte* block);
  // Another such sum: adds what is in only one of both, as addition is subtraction.
  void add_sum(const std::byte* p, const std::byte* q);
  // `q` may be null. Neither may be one of the blocks added.
  void store(std::byte* p, std::byte* q, std::size_t size) const;

 private:
  std::vector<const std::byte*> blocks_;
  std::vector<std::uint8_t> p_;
  std::vector<std::uint8_t> q_;
};

// Computes the columns of `missing` from all others. Requires: at most `parity` of them; those that
// are missing are writable buffers of `size` bytes, none null.
void reconstruct(const Geometry& geometry, std::span<std::byte* const> columns, ColumnMask missing,
                 std::size_t size);

// What is to be made from the other columns so that all agree.
struct Mismatch {
  ColumnMask columns = 0;
  bool located = false;  // they are the wrong ones for sure; else it is parity, whatever was wrong
};
// Requires: all columns, none null. Single parity cannot tell which column is wrong; double parity
// can if it is only one.
Mismatch compare(const Geometry& geometry, std::span<const std::byte* const> columns,
                 std::size_t size);

}  // namespace duet::raid
