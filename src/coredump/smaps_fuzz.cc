// The text of /proc/PID/smaps from the fuzzer's bytes: names of files in it are anybody's.
#include "coredump/process_image.h"

using namespace duet;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  for (const auto& m : coredump::parse_smaps({reinterpret_cast<const char*>(data), size})) {
    ASSERT(m.start < m.end && m.size() % coredump::page_size == 0);
    ASSERT(coredump::dumped_size(m, true) <= m.size());
    ASSERT(coredump::dumped_size(m, false) <= coredump::dumped_size(m, true));
  }
  return 0;
}
