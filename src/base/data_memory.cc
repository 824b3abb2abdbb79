#include "base/data_memory.h"

#include <atomic>

#include "base/assert.h"

namespace duet {
namespace {

std::atomic<std::pmr::memory_resource*> chosen{nullptr};

}  // namespace

std::pmr::memory_resource& data_memory() {
  auto* resource = chosen.load(std::memory_order_acquire);
  if (resource == nullptr) {
    // The first one decides; it is the same whoever is first.
    chosen.compare_exchange_strong(resource, std::pmr::new_delete_resource());
    resource = chosen.load(std::memory_order_acquire);
  }
  return *resource;
}

void use_data_memory(std::pmr::memory_resource& resource) {
  std::pmr::memory_resource* none = nullptr;
  ASSERT(chosen.compare_exchange_strong(none, &resource));
}

}  // namespace duet
