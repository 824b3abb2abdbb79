#include "raid/parity.h"

#include <isa-l/erasure_code.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>

#include "base/assert.h"
#include "base/data_memory.h"

namespace duet::raid {
namespace {

using Weight = std::uint8_t;

constexpr std::array<Weight, max_group_data> make_powers() {
  std::array<Weight, max_group_data> powers{};
  unsigned value = 1;
  for (Weight& power : powers) {
    power = static_cast<Weight>(value);
    value = value << 1 ^ (value >= 0x80 ? 0x11d : 0);
  }
  return powers;
}
constexpr auto power_of_g = make_powers();

Weight multiply(Weight a, Weight b) {
  return gf_mul(a, b);
}

// outputs[r] = sum over i of weights[r][i] * blocks[i].
template <std::size_t rows>
void combine(std::span<const std::byte* const> blocks,
             const std::array<const std::vector<Weight>*, rows>& weights,
             const std::array<std::byte*, rows>& outputs, std::size_t size) {
  const auto count = static_cast<int>(blocks.size());
  if (count == 0) {
    for (std::byte* output : outputs) std::memset(output, 0, size);
    return;
  }
  std::array<Weight, rows*(max_columns + 2)> matrix{};
  ASSERT(rows * blocks.size() <= matrix.size());
  for (std::size_t r = 0; r < rows; ++r) {
    std::memcpy(matrix.data() + r * blocks.size(), weights[r]->data(), blocks.size());
  }
  std::array<Weight, 32 * rows*(max_columns + 2)> tables;
  ec_init_tables(count, static_cast<int>(rows), matrix.data(), tables.data());
  std::array<unsigned char*, max_columns + 2> sources{};
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    // ISA-L only reads the sources; its signature says less.
    sources[i] = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(blocks[i]));
  }
  std::array<unsigned char*, rows> targets{};
  for (std::size_t r = 0; r < rows; ++r) targets[r] = reinterpret_cast<unsigned char*>(outputs[r]);
  ec_encode_data(static_cast<int>(size), count, static_cast<int>(rows), tables.data(),
                 sources.data(), targets.data());
}

// One row: a missing column as a weighted sum of the others.
class Solution {
 public:
  void add(const std::byte* block, Weight weight) {
    if (block == nullptr || weight == 0) return;
    blocks_.push_back(block);
    weights_.push_back(weight);
  }
  void store(std::byte* output, std::size_t size) const {
    combine<1>(blocks_, {&weights_}, {output}, size);
  }

 private:
  std::vector<const std::byte*> blocks_;
  std::vector<Weight> weights_;
};

// One data column from P, or from Q if P is missing, too.
void solve_one(const Geometry& geometry, std::span<std::byte* const> columns, std::uint32_t x,
               bool use_q, std::size_t size) {
  Solution row;
  const Weight inverse = gf_inv(power_of_g[x]);
  for (std::uint32_t i = 0; i < geometry.data; ++i) {
    if (i != x) row.add(columns[i], use_q ? multiply(inverse, power_of_g[i]) : Weight{1});
  }
  row.add(columns[geometry.data + (use_q ? 1 : 0)], use_q ? inverse : Weight{1});
  row.store(columns[x], size);
}

// With A = x + y (from P) and B = g^x x + g^y y (from Q): x = (g^y A + B) / (g^x + g^y).
void solve_two(const Geometry& geometry, std::span<std::byte* const> columns, std::uint32_t x,
               std::uint32_t y, std::size_t size) {
  Solution row;
  const Weight inverse = gf_inv(static_cast<Weight>(power_of_g[x] ^ power_of_g[y]));
  for (std::uint32_t i = 0; i < geometry.data; ++i) {
    if (i == x || i == y) continue;
    row.add(columns[i], multiply(inverse, static_cast<Weight>(power_of_g[y] ^ power_of_g[i])));
  }
  row.add(columns[geometry.data], multiply(inverse, power_of_g[y]));
  row.add(columns[geometry.data + 1], inverse);
  row.store(columns[x], size);
}

bool is_zero(const DataBytes& bytes) {
  return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

// The column x for which q = g^x p everywhere, if there is one.
std::optional<std::uint32_t> locate(const DataBytes& p, const DataBytes& q, std::uint32_t data) {
  std::uint32_t found = data;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const auto from = static_cast<Weight>(p[i]);
    const auto to = static_cast<Weight>(q[i]);
    if ((from == 0) != (to == 0)) return {};
    if (from == 0) continue;
    if (found == data) {
      found = 0;
      while (found < data && multiply(power_of_g[found], from) != to) ++found;
      if (found == data) return {};
    } else if (multiply(power_of_g[found], from) != to) {
      return {};
    }
  }
  return found;
}

}  // namespace

void ParitySum::add(std::uint32_t data_column, const std::byte* block) {
  if (block == nullptr) return;
  blocks_.push_back(block);
  p_.push_back(1);
  q_.push_back(power_of_g[data_column]);
}

void ParitySum::add_sum(const std::byte* p, const std::byte* q) {
  if (p != nullptr) {
    blocks_.push_back(p);
    p_.push_back(1);
    q_.push_back(0);
  }
  if (q != nullptr) {
    blocks_.push_back(q);
    p_.push_back(0);
    q_.push_back(1);
  }
}

void ParitySum::store(std::byte* p, std::byte* q, std::size_t size) const {
  ASSERT(blocks_.size() <= max_columns + 2);
  if (q == nullptr) {
    combine<1>(blocks_, {&p_}, {p}, size);
  } else {
    combine<2>(blocks_, {&p_, &q_}, {p, q}, size);
  }
}

void reconstruct(const Geometry& geometry, std::span<std::byte* const> columns, ColumnMask missing,
                 std::size_t size) {
  ASSERT(static_cast<std::uint32_t>(std::popcount(missing)) <= geometry.parity);
  const ColumnMask data = missing & geometry.data_mask();
  const bool no_p = (missing >> geometry.data & 1) != 0;
  if (data != 0) {
    const auto x = static_cast<std::uint32_t>(std::countr_zero(data));
    if (std::has_single_bit(data)) {
      solve_one(geometry, columns, x, no_p, size);
    } else {
      const auto y = static_cast<std::uint32_t>(std::bit_width(data) - 1);
      solve_two(geometry, columns, x, y, size);
      solve_one(geometry, columns, y, false, size);
    }
  }
  if ((missing & geometry.parity_mask()) == 0) return;
  Solution p;
  Solution q;
  for (std::uint32_t i = 0; i < geometry.data; ++i) {
    p.add(columns[i], 1);
    q.add(columns[i], power_of_g[i]);
  }
  if (no_p) p.store(columns[geometry.data], size);
  if (geometry.parity == 2 && (missing >> (geometry.data + 1) & 1) != 0) {
    q.store(columns[geometry.data + 1], size);
  }
}

Mismatch compare(const Geometry& geometry, std::span<const std::byte* const> columns,
                 std::size_t size) {
  ParitySum sum;
  for (std::uint32_t i = 0; i < geometry.data; ++i) sum.add(i, columns[i]);
  sum.add_sum(columns[geometry.data], geometry.parity == 2 ? columns[geometry.data + 1] : nullptr);
  DataBytes p(size);
  DataBytes q(geometry.parity == 2 ? size : 0);
  sum.store(p.data(), q.empty() ? nullptr : q.data(), size);
  const ColumnMask p_bit = ColumnMask{1} << geometry.data;
  const bool p_right = is_zero(p);
  const bool q_right = is_zero(q);
  if (p_right && q_right) return {};
  if (geometry.parity == 1) return {p_bit, false};
  if (q_right) return {p_bit, true};
  if (p_right) return {p_bit << 1, true};
  if (auto column = locate(p, q, geometry.data)) return {ColumnMask{1} << *column, true};
  return {geometry.parity_mask(), false};
}

}  // namespace duet::raid
