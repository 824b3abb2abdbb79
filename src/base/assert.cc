#include "base/assert.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>

#include "base/failed_assertion.h"

namespace duet {
namespace {

AssertionHandler assertion_handler = nullptr;
std::atomic<bool> has_failed{false};
std::atomic<bool> text_is_there{false};
char text[512];

}  // namespace

void set_assertion_handler(AssertionHandler handler) {
  assertion_handler = handler;
}

void assertion_failed(const char* expression, const char* file, int line) {
  if (assertion_handler != nullptr) assertion_handler(expression, file, line);
  if (!has_failed.exchange(true)) {
    std::snprintf(text, sizeof text, "%s at %s:%d", expression, file, line);
    text_is_there.store(true, std::memory_order_release);
  }
  std::fprintf(stderr, "ASSERT failed: %s at %s:%d\n", expression, file, line);
  std::abort();
}

const char* last_failed_assertion() {
  return text_is_there.load(std::memory_order_acquire) ? text : nullptr;
}

}  // namespace duet
