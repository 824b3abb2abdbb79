// A stopped process as its core file shows it: threads with registers, notes, mappings. Values
// only; platform/traced_process.h fills them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace duet::coredump {

inline constexpr std::uint64_t page_size = 4096;
// Linux allows 65530 by default, ELF 65534 segments; what is beyond is left out of a core.
inline constexpr std::size_t max_mappings = 65'000;
inline constexpr std::size_t max_threads = 4'096;

struct Mapping {
  std::uint64_t start = 0;  // multiples of page_size
  std::uint64_t end = 0;
  bool read = false;
  bool write = false;
  bool execute = false;
  bool shared = false;
  std::uint64_t offset = 0;    // in the file
  std::uint64_t inode = 0;     // 0: anonymous
  std::string path{};          // as the kernel shows it; empty or [name] if there is no file
  std::uint64_t resident = 0;  // bytes in memory or swap
  std::uint64_t modified = 0;  // bytes that are no longer those of the file
  bool excluded = false;       // MADV_DONTDUMP
  bool device = false;         // VM_IO
  bool elf = false;            // begins with an ELF header, and so leads to a build id

  std::uint64_t size() const { return end - start; }
  bool operator==(const Mapping&) const = default;
};

// /proc/PID/smaps. A mapping that cannot be understood is left out, one cut off at the end too.
std::vector<Mapping> parse_smaps(std::string_view text);

// How much of the front of a mapping a core holds: the kernel's default filter (core(5)), and
// nothing of what was never touched. `everything` includes what MADV_DONTDUMP excludes.
std::uint64_t dumped_size(const Mapping& mapping, bool everything);

struct Thread {
  std::uint32_t id = 0;
  std::vector<std::byte> registers;  // NT_PRSTATUS register set
  std::vector<std::byte> floating;   // NT_FPREGSET; may be empty
  std::vector<std::byte> extended;   // NT_X86_XSTATE; may be empty
  std::uint64_t stack_pointer = 0;
};

struct ProcessImage {
  std::uint32_t pid = 0;
  std::uint32_t parent = 0;
  std::uint32_t group = 0;
  std::uint32_t session = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::string name;
  std::string arguments;                      // separated by spaces
  int signal = 0;                             // of the failing thread; 0 none
  std::vector<std::byte> signal_information;  // siginfo_t; empty: made from `signal`
  std::vector<std::byte> auxiliary_vector;
  std::vector<Thread> threads;  // the failing one first
  std::vector<Mapping> mappings;
};

}  // namespace duet::coredump
