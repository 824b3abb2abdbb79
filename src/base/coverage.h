// Coverage marks tie a rare branch to the tests and simulated runs that reach it: MARK(name) in the
// branch counts how often it was taken, and every mark of a program is known from its start,
// reached or not. Costs one relaxed increment. See docs/testing.md.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <string_view>

namespace duet::coverage {

struct alignas(32) Mark {
  const char* name;
  const char* file;
  int line;
  std::atomic<std::uint32_t> count;
};
static_assert(sizeof(Mark) == 32);

// The linker puts all marks of a program side by side in a section of its own and names its ends.
extern Mark first_mark[] __asm__("__start_duet_marks") __attribute__((weak, visibility("hidden")));
extern Mark end_of_marks[] __asm__("__stop_duet_marks") __attribute__((weak, visibility("hidden")));

struct Reached {
  std::string_view file;  // of one of the places that bear the name
  std::uint64_t count = 0;
};
// All marks of the program by name, those that were never reached included.
inline std::map<std::string_view, Reached> marks() {
  std::map<std::string_view, Reached> all;
  for (Mark* mark = first_mark; mark != end_of_marks; ++mark) {
    auto& reached = all[mark->name];
    reached.file = mark->file;
    reached.count += mark->count.load(std::memory_order_relaxed);
  }
  return all;
}
// How often the marks of this name were reached; 0 for a name that no place bears.
inline std::uint64_t count(std::string_view name) {
  std::uint64_t sum = 0;
  for (Mark* mark = first_mark; mark != end_of_marks; ++mark) {
    if (name == mark->name) sum += mark->count.load(std::memory_order_relaxed);
  }
  return sum;
}

}  // namespace duet::coverage

#define MARK(mark_name)                                                      \
  do {                                                                       \
    __attribute__((section("duet_marks"),                                    \
                   used)) static constinit ::duet::coverage::Mark duet_mark{ \
        #mark_name, __FILE__, __LINE__, {0}};                                \
    duet_mark.count.fetch_add(1, std::memory_order_relaxed);                 \
  } while (false)
