// Memory for data: what clients store, in blocks of the cache and in every buffer that it travels
// in. One resource for the process, which main() may replace: an engine takes one that is left out
// of its core (platform/undumped_memory.h). Structures, names and numbers of ours do not belong
// here: a debugger needs them.
#pragma once

#include <cstddef>
#include <memory_resource>
#include <vector>

#include "base/bytes.h"

namespace duet {

// operator new until use_data_memory() says otherwise.
std::pmr::memory_resource& data_memory();
// Requires: no data memory has been asked for yet; `resource` is never destroyed.
void use_data_memory(std::pmr::memory_resource& resource);

template <class T>
struct DataAllocator {
  using value_type = T;
  DataAllocator() = default;
  template <class U>
  explicit(false) DataAllocator(const DataAllocator<U>&) {}
  T* allocate(std::size_t n) {
    return static_cast<T*>(data_memory().allocate(n * sizeof(T), alignof(T)));
  }
  void deallocate(T* p, std::size_t n) { data_memory().deallocate(p, n * sizeof(T), alignof(T)); }
  bool operator==(const DataAllocator&) const = default;
};

// As make_buffer (base/bytes.h), with whatever was in that memory: for who fills it.
OwnedBuffer make_raw_buffer(std::size_t size);

// For data that grows; otherwise a Slice (base/bytes.h) is better.
using DataBytes = std::vector<std::byte, DataAllocator<std::byte>>;

}  // namespace duet
