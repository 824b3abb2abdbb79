// The ELF core file of a process image (System V ABI, Linux elf(5), core(5)): laid out first, with
// every size, then given out front to back in bounded memory. What a debugger needs first comes
// first in the file: notes, the failing thread's stack, modules and what is small, other stacks,
// rest. So a core that ends early still shows where it crashed.
#pragma once

#include <functional>
#include <vector>

#include "coredump/process_image.h"

namespace duet::coredump {

struct Segment {
  std::uint64_t address = 0;
  std::uint64_t size = 0;    // bytes of it in the file
  std::uint64_t offset = 0;  // in the file; a multiple of page_size
};

struct CoreLayout {
  std::vector<std::byte> head;    // ELF header, program headers, notes; whole pages
  std::vector<Segment> segments;  // in the order of the file, right behind the head
  std::uint64_t total = 0;        // bytes
};

// Requires: at least one thread. `everything` as in dumped_size.
CoreLayout lay_out_core(const ProcessImage& image, bool everything);

class CoreStream {
 public:
  // Reads memory of the process: how many bytes of the front of `out` it could fill.
  using ReadMemory = std::function<std::size_t(std::uint64_t address, MutableBytes out)>;
  CoreStream(CoreLayout layout, ReadMemory read);

  // The next bytes of the file, as many as `out` holds unless the file ends; 0 at its end. Pages
  // that cannot be read are zero.
  std::size_t next(MutableBytes out);

  std::uint64_t total() const { return layout_.total; }
  std::uint64_t done() const { return done_; }
  std::uint64_t unreadable() const { return unreadable_; }  // bytes, so far

 private:
  void read_memory(std::uint64_t address, MutableBytes out);
  CoreLayout layout_;
  ReadMemory read_;
  std::size_t segment_ = 0;
  std::uint64_t done_ = 0;
  std::uint64_t unreadable_ = 0;
};

}  // namespace duet::coredump
