#include "base/assert.h"

#include <cstdio>
#include <cstdlib>

namespace duet {
namespace {

AssertionHandler assertion_handler = nullptr;

}  // namespace

void set_assertion_handler(AssertionHandler handler) {
  assertion_handler = handler;
}

void assertion_failed(const char* expression, const char* file, int line) {
  if (assertion_handler != nullptr) assertion_handler(expression, file, line);
  std::fprintf(stderr, "ASSERT failed: %s at %s:%d\n", expression, file, line);
  std::abort();
}

}  // namespace duet
