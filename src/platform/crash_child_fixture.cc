// Crashes in a named function, as told, then waits in its signal handler to be looked at: writes
// "THREAD SIGNAL\n" to its standard output and does no more.
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "base/assert.h"
#include "platform/undumped_memory.h"

// Without our libraries, which may be built with a sanitizer.
void duet::assertion_failed(const char*, const char*, int) {
  std::abort();
}

extern "C" {
int* volatile nowhere = nullptr;
volatile int sink = 0;
char handler_stack[65536];
// Memory that must be in the core, and memory that must not: "visible:..." and "private:...".
volatile char* visible_page = nullptr;
volatile char* private_page = nullptr;

void on_fatal(int signal) {
  char line[64];
  int n = std::snprintf(line, sizeof line, "%ld %d\n", syscall(SYS_gettid), signal);
  if (write(STDOUT_FILENO, line, static_cast<size_t>(n)) != n) _exit(3);
  for (;;) pause();
}

[[gnu::noinline]] void function_with_null_dereference() {
  *nowhere = 1;
  sink = 1;
}
// 64 MiB that no compression makes smaller.
[[gnu::noinline]] void function_with_much_memory() {
  constexpr std::size_t words = 8 << 20;
  auto* memory = static_cast<std::uint64_t*>(std::malloc(words * sizeof(std::uint64_t)));
  std::uint64_t seed = 1;
  for (std::size_t i = 0; memory != nullptr && i < words; ++i) {
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    memory[i] = seed ^ seed >> 33;
  }
  on_fatal(0);
  std::free(memory);
}
[[gnu::noinline]] void function_that_aborts() {
  std::abort();
}
[[gnu::noinline]] int function_that_never_returns(int depth) {
  volatile char frame[512];
  frame[0] = static_cast<char>(depth);
  if (nowhere != nullptr) return depth;  // never, which the compiler cannot know
  int deeper = function_that_never_returns(depth + 1);
  sink = deeper;
  return deeper + frame[0];
}
[[gnu::noinline]] void function_that_hangs() {
  on_fatal(0);
  sink = 2;
}
void* thread_that_aborts(void*) {
  function_that_aborts();
  return nullptr;
}
pthread_barrier_t all_run;

void* thread_that_waits(void*) {
  pthread_barrier_wait(&all_run);
  for (;;) pause();
}
}

static volatile char* with_word(void* page, std::string_view word) {
  auto* to = static_cast<char*>(page);
  // Made here, so that it stands nowhere else: each letter from the one before it in the alphabet.
  for (char c : word) *to++ = static_cast<char>(c + 1);
  return static_cast<volatile char*>(page);
}

int main(int count, char** arguments) {
  if (count < 2) return 2;
  void* page = mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return 2;
  visible_page = with_word(page, "uhrhakdldlnqx");  // visiblememory
  auto& data = *new duet::platform::UndumpedMemory;
  private_page = with_word(data.allocate(8192), "oqhu`sdldlnqx");  // privatememory
  stack_t stack{};
  stack.ss_sp = handler_stack;
  stack.ss_size = sizeof handler_stack;
  sigaltstack(&stack, nullptr);
  struct sigaction action{};
  action.sa_handler = on_fatal;
  action.sa_flags = SA_ONSTACK;
  for (int signal : {SIGSEGV, SIGBUS, SIGABRT}) sigaction(signal, &action, nullptr);
  pthread_barrier_init(&all_run, nullptr, 2);
  pthread_t waiting;
  if (pthread_create(&waiting, nullptr, thread_that_waits, nullptr) != 0) return 2;
  pthread_barrier_wait(&all_run);
  std::string_view how = arguments[1];
  if (how == "large") function_with_much_memory();
  if (how == "null") function_with_null_dereference();
  if (how == "overflow") function_that_never_returns(0);
  if (how == "hang") function_that_hangs();
  if (how == "abort") {
    pthread_t failing;
    if (pthread_create(&failing, nullptr, thread_that_aborts, nullptr) != 0) return 2;
    pthread_join(failing, nullptr);
  }
  return 2;
}
