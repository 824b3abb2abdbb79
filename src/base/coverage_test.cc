#include "base/coverage.h"

#include <gtest/gtest-spi.h>

#include "base/coverage_expect.h"

namespace duet::coverage {
namespace {

void classify(int number) {
  if (number == 13) MARK(coverage_test_thirteen);
  if (number < 0) {
    MARK(coverage_test_negative);
  }
}
template <class T>
void in_a_template(T) {
  MARK(coverage_test_template);
}
inline void in_an_inline_function() {
  MARK(coverage_test_twice);
}
void elsewhere() {
  MARK(coverage_test_twice);
}

TEST(Coverage, AMarkIsKnownBeforeItIsReached) {
  auto all = marks();
  ASSERT_TRUE(all.contains("coverage_test_negative"));
  EXPECT_EQ(0u, all["coverage_test_negative"].count);
  EXPECT_TRUE(all["coverage_test_negative"].file.ends_with("coverage_test.cc"));
}

TEST(Coverage, EachPassCounts) {
  const auto before = count("coverage_test_thirteen");
  classify(1);
  EXPECT_EQ(before, count("coverage_test_thirteen"));
  classify(13);
  classify(13);
  EXPECT_EQ(before + 2, count("coverage_test_thirteen"));
}

TEST(Coverage, PlacesOfOneNameCountTogether) {
  in_a_template(1);
  in_a_template("a");
  EXPECT_EQ(2u, count("coverage_test_template"));
  in_an_inline_function();
  elsewhere();
  EXPECT_EQ(2u, marks()["coverage_test_twice"].count);
  EXPECT_EQ(0u, count("no_such_mark"));
}

TEST(Coverage, AnExpectationFailsUnlessItsScopeReachesTheMark) {
  {
    EXPECT_MARK(coverage_test_thirteen);
    classify(13);
  }
  EXPECT_NONFATAL_FAILURE(
      {
        EXPECT_MARK(coverage_test_thirteen);
        classify(1);
      },
      "was not reached");
}

}  // namespace
}  // namespace duet::coverage
