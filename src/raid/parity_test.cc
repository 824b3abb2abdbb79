// The arithmetic against a slow, obvious one.
#include "raid/parity.h"

#include <gtest/gtest.h>

#include <bit>

#include "simulation/random.h"

namespace duet::raid {
namespace {

constexpr std::size_t size = 96;  // not a multiple of what vector code takes at once

std::uint8_t multiply(std::uint8_t a, std::uint8_t b) {
  unsigned product = 0;
  for (int bit = 7; bit >= 0; --bit) {
    product = product << 1 ^ ((product & 0x80) != 0 ? 0x11d : 0);
    if ((b >> bit & 1) != 0) product ^= a;
  }
  return static_cast<std::uint8_t>(product);
}

std::uint8_t weight(std::uint32_t column) {
  std::uint8_t w = 1;
  for (std::uint32_t i = 0; i < column; ++i) w = multiply(w, 2);
  return w;
}

struct Stripe {
  explicit Stripe(const Geometry& g, std::uint64_t seed) : geometry(g) {
    simulation::Random random(seed);
    // At odd addresses: data comes from anywhere.
    memory.resize(g.columns() * (size + 1) + 1);
    for (std::uint32_t i = 0; i < g.columns(); ++i) {
      columns.push_back(memory.data() + 1 + i * (size + 1));
    }
    for (std::uint32_t i = 0; i < g.data; ++i) {
      for (std::size_t k = 0; k < size; ++k) columns[i][k] = std::byte(random.next());
    }
    ParitySum sum;
    for (std::uint32_t i = 0; i < g.data; ++i) sum.add(i, columns[i]);
    if (g.parity > 0) {
      sum.store(columns[g.data], g.parity == 2 ? columns[g.data + 1] : nullptr, size);
    }
  }
  std::vector<std::byte> column(std::uint32_t i) const { return {columns[i], columns[i] + size}; }
  Geometry geometry;
  std::vector<std::byte> memory;
  std::vector<std::byte*> columns;
};

TEST(Parity, IsTheSumAndTheWeightedSum) {
  for (std::uint32_t data = 1; data <= max_group_data; ++data) {
    Stripe stripe({data, 2}, data);
    for (std::size_t k = 0; k < size; ++k) {
      std::uint8_t p = 0;
      std::uint8_t q = 0;
      for (std::uint32_t i = 0; i < data; ++i) {
        const auto value = static_cast<std::uint8_t>(stripe.columns[i][k]);
        p = static_cast<std::uint8_t>(p ^ value);
        q = static_cast<std::uint8_t>(q ^ multiply(weight(i), value));
      }
      ASSERT_EQ(stripe.columns[data][k], std::byte(p));
      ASSERT_EQ(stripe.columns[data + 1][k], std::byte(q));
    }
  }
}

TEST(Parity, AnyMissingColumnsComeBack) {
  for (const std::uint32_t parity : {1u, 2u}) {
    for (std::uint32_t data = 1; data <= max_group_data; ++data) {
      const Geometry geometry{data, parity};
      const Stripe whole(geometry, data);
      for (std::uint32_t a = 0; a < geometry.columns(); ++a) {
        for (std::uint32_t b = a; b < geometry.columns(); ++b) {
          const ColumnMask missing = ColumnMask{1} << a | ColumnMask{1} << b;
          if (std::popcount(missing) > static_cast<int>(parity)) continue;
          Stripe damaged(geometry, data);
          for (const std::uint32_t i : {a, b}) std::fill_n(damaged.columns[i], size, std::byte{7});
          reconstruct(geometry, damaged.columns, missing, size);
          ASSERT_EQ(damaged.column(a), whole.column(a)) << data << ": " << a << ", " << b;
          ASSERT_EQ(damaged.column(b), whole.column(b)) << data << ": " << a << ", " << b;
        }
      }
    }
  }
}

TEST(Parity, DoubleParityFindsTheOneColumnThatIsWrong) {
  for (const std::uint32_t data : {1u, 2u, 5u, 28u}) {
    const Geometry geometry{data, 2};
    Stripe stripe(geometry, data);
    EXPECT_EQ(compare(geometry, stripe.columns, size).columns, 0u);
    for (std::uint32_t column = 0; column < geometry.columns(); ++column) {
      Stripe damaged(geometry, data);
      damaged.columns[column][7] ^= std::byte{0x41};
      damaged.columns[column][70] ^= std::byte{0xff};
      const Mismatch found = compare(geometry, damaged.columns, size);
      EXPECT_TRUE(found.located);
      EXPECT_EQ(found.columns, ColumnMask{1} << column) << data;
    }
    if (data < 2) continue;
    Stripe twice(geometry, data);
    twice.columns[0][7] ^= std::byte{0x41};
    twice.columns[1][8] ^= std::byte{0x41};
    EXPECT_FALSE(compare(geometry, twice.columns, size).located);
  }
  const Geometry single{3, 1};
  Stripe stripe(single, 1);
  EXPECT_EQ(compare(single, stripe.columns, size).columns, 0u);
  stripe.columns[0][0] ^= std::byte{1};
  EXPECT_FALSE(compare(single, stripe.columns, size).located);
  EXPECT_EQ(compare(single, stripe.columns, size).columns, single.parity_mask());
}

TEST(Parity, NullBlocksAreZerosAndSumsAdd) {
  const Geometry geometry{4, 2};
  Stripe stripe(geometry, 3);
  std::fill_n(stripe.columns[2], size, std::byte{0});
  ParitySum some;
  some.add(0, stripe.columns[0]);
  some.add(2, nullptr);
  std::vector<std::byte> p(size);
  std::vector<std::byte> q(size);
  some.store(p.data(), q.data(), size);
  ParitySum all;
  all.add_sum(p.data(), q.data());
  all.add(1, stripe.columns[1]);
  all.add(3, stripe.columns[3]);
  std::vector<std::byte> all_p(size);
  std::vector<std::byte> all_q(size);
  all.store(all_p.data(), all_q.data(), size);
  ParitySum direct;
  for (std::uint32_t i = 0; i < 4; ++i) direct.add(i, stripe.columns[i]);
  direct.store(p.data(), q.data(), size);
  EXPECT_EQ(p, all_p);
  EXPECT_EQ(q, all_q);
  ParitySum nothing;
  nothing.store(p.data(), nullptr, size);
  EXPECT_EQ(p, std::vector<std::byte>(size));
}

}  // namespace
}  // namespace duet::raid
