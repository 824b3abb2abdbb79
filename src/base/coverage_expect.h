// For tests: EXPECT_MARK(name) fails unless the rest of its scope reaches MARK(name).
#pragma once

#include <gtest/gtest.h>

#include "base/coverage.h"

namespace duet::coverage {

class Expectation {
 public:
  Expectation(const char* name, const char* file, int line)
      : name_(name), file_(file), line_(line), before_(count(name)) {}
  Expectation(const Expectation&) = delete;
  Expectation& operator=(const Expectation&) = delete;
  ~Expectation() {
    if (count(name_) == before_) {
      ADD_FAILURE_AT(file_, line_) << "the mark '" << name_ << "' was not reached";
    }
  }

 private:
  const char* name_;
  const char* file_;
  int line_;
  std::uint64_t before_;
};

}  // namespace duet::coverage

#define DUET_MARK_JOIN_(a, b) a##b
#define DUET_MARK_JOIN(a, b) DUET_MARK_JOIN_(a, b)
#define EXPECT_MARK(mark_name)                                                             \
  const ::duet::coverage::Expectation DUET_MARK_JOIN(expected_mark_, __LINE__)(#mark_name, \
                                                                               __FILE__, __LINE__)
