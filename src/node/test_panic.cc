#include "node/test_panic.h"

#include <array>
#include <atomic>
#include <cstdlib>
#include <thread>
#include <utility>

#include "base/assert.h"
#include "pool/block_cache.h"

namespace duet::node {
namespace {

// What the compiler must not see through.
std::atomic<std::uint64_t> seen{0};
pool::BlockCache* volatile no_cache = nullptr;

[[gnu::noinline]] void read_through_null_cache() {
  seen += no_cache->find(raid::BlockAddress{1}).bytes.size();
  seen += 1;
}

[[gnu::noinline]] void fail_assertion_on_purpose() {
  ASSERT(seen == ~std::uint64_t{0});
  seen += 1;
}

[[gnu::noinline]] std::uint64_t recurse_without_end(std::uint64_t depth) {
  std::array<volatile std::uint64_t, 64> frame{};
  frame[depth % frame.size()] = depth;
  if (seen == ~std::uint64_t{0}) return depth;
  return recurse_without_end(depth + 1) + frame[(depth + 1) % frame.size()];
}

[[gnu::noinline]] void abort_in_a_thread() {
  seen += 1;
  std::abort();
}

[[gnu::noinline]] void hang_on_purpose() {
  while (seen.load(std::memory_order_relaxed) != ~std::uint64_t{0}) {
  }
}

}  // namespace

std::optional<PanicKind> panic_kind(std::string_view name) {
  using enum PanicKind;
  for (auto [text, kind] :
       {std::pair{"null", null}, std::pair{"assert", assert}, std::pair{"stack", stack},
        std::pair{"abort", abort}, std::pair{"hang", hang}}) {
    if (name == text) return kind;
  }
  return std::nullopt;
}

void panic_on_purpose(PanicKind kind) {
  switch (kind) {
    case PanicKind::null:
      return read_through_null_cache();
    case PanicKind::assert:
      return fail_assertion_on_purpose();
    case PanicKind::stack:
      seen += recurse_without_end(1);
      return;
    case PanicKind::abort:
      std::thread(abort_in_a_thread).detach();
      return;
    case PanicKind::hang:
      return hang_on_purpose();
  }
}

}  // namespace duet::node
