#include "base/archive.h"

#include <gtest/gtest.h>

#include <array>

namespace duet {
namespace {

enum class Colour : std::uint16_t { red = 1, blue = 0x0203 };

struct Point {
  std::int32_t x = 0;
  std::uint8_t y = 0;
  bool operator==(const Point&) const = default;
  template <class A>
  void fields(A& a) {
    a(x), a(y);
  }
};
struct Nothing {
  bool operator==(const Nothing&) const = default;
  template <class A>
  void fields(A&) {}
};
struct Everything {
  std::uint8_t small = 0;
  std::int64_t negative = 0;
  bool yes = false;
  Colour colour{};
  std::string text;
  Epoch epoch;
  std::vector<std::byte> bytes;
  std::vector<std::string> words;
  std::vector<Point> points;
  std::vector<Nothing> nothings;
  std::optional<Point> maybe;
  std::optional<std::uint8_t> absent;
  std::variant<Point, std::string, Nothing> one_of;
  bool operator==(const Everything&) const = default;
  template <class A>
  void fields(A& a) {
    a(small), a(negative), a(yes), a(colour), a(text), a(epoch), a(bytes), a(words), a(points),
        a(nothings), a(maybe), a(absent), a(one_of);
  }
};

Everything filled() {
  Everything e;
  e.small = 7;
  e.negative = -2;
  e.yes = true;
  e.colour = Colour::blue;
  e.text = "mailbox";
  e.epoch = Epoch(0x0102030405060708);
  e.bytes = {std::byte{1}, std::byte{0}};
  e.words = {"", "red", std::string("\0x", 2)};
  e.points = {{-1, 2}, {3, 4}};
  e.nothings.resize(1);
  e.maybe = Point{5, 6};
  e.one_of = "second";
  return e;
}

Bytes as_bytes(const std::vector<std::uint8_t>& v) {
  return std::as_bytes(std::span(v));
}

TEST(Archive, RoundTripOfEveryKindOfField) {
  auto bytes = archive(filled());
  auto back = unarchive<Everything>(bytes);
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, filled());
  EXPECT_EQ(archive(*back), bytes);

  auto empty = unarchive<Everything>(archive(Everything{}));
  ASSERT_TRUE(empty);
  EXPECT_EQ(*empty, Everything{});
}

TEST(Archive, Golden) {
  struct Message {
    Colour colour = Colour::blue;
    std::vector<Point> points{{-2, 9}};
    std::optional<bool> maybe = true;
    std::variant<Nothing, Epoch> one_of = Epoch(5);
    std::string text = "hi";
    void fields(ArchiveWriter& a) { a(colour), a(points), a(maybe), a(one_of), a(text); }
  };
  EXPECT_EQ(to_hex(archive(Message())),
            "0302"                // enumeration, two bytes
            "01000000"            // one point
            "feffffff09"          // x = -2, y = 9
            "0101"                // present, true
            "010500000000000000"  // second alternative, 5
            "020000006869");      // two characters
}

TEST(Archive, EveryTruncationIsInvalid) {
  auto bytes = archive(filled());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    auto r = unarchive<Everything>(Bytes(bytes).first(size));
    ASSERT_FALSE(r) << size;
    EXPECT_EQ(r.error().code, ErrorCode::invalid);
  }
}

TEST(Archive, TrailingBytesAreInvalid) {
  auto bytes = archive(filled());
  bytes.push_back(std::byte{0});
  EXPECT_FALSE(unarchive<Everything>(bytes));
}

TEST(Archive, AVariantIndexWithoutAlternativeIsInvalid) {
  using V = std::variant<Nothing, Nothing>;
  EXPECT_TRUE(unarchive<V>(as_bytes({1})));
  EXPECT_FALSE(unarchive<V>(as_bytes({2})));
  EXPECT_FALSE(unarchive<V>(as_bytes({255})));
  EXPECT_FALSE(unarchive<V>({}));
}

// A count may be as large as it likes: nothing is allocated for elements that are not there.
TEST(Archive, LyingCountsAreRefusedBeforeAllocating) {
  static std::size_t made;
  struct Counted {
    Counted() { ++made; }
    std::uint32_t value = 0;
    void fields(ArchiveReader& a) { a(value); }
    void fields(ArchiveMinimum& a) { a(value); }
  };
  std::vector<std::uint8_t> message{0xff, 0xff, 0xff, 0xff};
  message.resize(4 + 4096);
  made = 0;
  EXPECT_FALSE(unarchive<std::vector<Counted>>(as_bytes(message)));
  EXPECT_LE(made, 1u);  // the one that was measured

  // One more than fits, though the rest has more bytes than the count says.
  message[0] = 1, message[1] = 4, message[2] = message[3] = 0;  // 1025 elements of 4 bytes
  made = 0;
  EXPECT_FALSE(unarchive<std::vector<Counted>>(as_bytes(message)));
  EXPECT_EQ(made, 0u);
  message[0] = 0;
  EXPECT_TRUE(unarchive<std::vector<Counted>>(as_bytes(message)));
  EXPECT_EQ(made, 1024u);

  EXPECT_FALSE(unarchive<std::string>(as_bytes({0xff, 0xff, 0xff, 0xff, 'x'})));
  EXPECT_FALSE(unarchive<std::vector<std::byte>>(as_bytes({2, 0, 0, 0, 1})));
  EXPECT_FALSE(unarchive<std::vector<Nothing>>(as_bytes({2, 0, 0, 0, 1})));
}

TEST(Archive, TheLeastSizeOfTypes) {
  EXPECT_EQ(ArchiveMinimum::of<Point>(), 5u);
  EXPECT_EQ(ArchiveMinimum::of<Nothing>(), 0u);
  EXPECT_EQ(ArchiveMinimum::of<NodeId>(), 1u);
  EXPECT_EQ((ArchiveMinimum::of<std::variant<Point, NodeId>>()), 2u);
  EXPECT_EQ(ArchiveMinimum::of<std::optional<Point>>(), 1u);
  EXPECT_EQ(ArchiveMinimum::of<Everything>(), archive(Everything{}).size() - 5 /* of one_of */);
}

struct Huge {  // a byte in the archive, much in memory: never to be an element
  std::optional<std::array<std::uint64_t, 1024>> present;
  template <class A>
  void fields(A&) {}
};
TEST(ArchiveDeathTest, AnElementThatGrowsTooMuchIsAMistakeOfOurs) {
  EXPECT_DEATH((void)unarchive<std::vector<Huge>>(as_bytes({0, 0, 0, 0})), "max_growth");
}

}  // namespace
}  // namespace duet
