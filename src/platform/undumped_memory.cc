#include "platform/undumped_memory.h"

#include <sys/mman.h>

#include <algorithm>
// Checks inside the library touch memory of neighbours at every call, at the price of the rest.
#define BOOST_DISABLE_ASSERTS
#include <boost/interprocess/mem_algo/rbtree_best_fit.hpp>
#include <boost/interprocess/sync/mutex_family.hpp>
#include <new>

#include "base/assert.h"

namespace duet::platform {
namespace {

// What the allocator's own blocks and the rounding of a request may need besides.
constexpr std::size_t overhead = 4096;

std::size_t round_up(std::size_t n, std::size_t to) {
  return (n + to - 1) / to * to;
}

}  // namespace

// We lock ourselves.
class UndumpedMemory::Heap final
    : public boost::interprocess::rbtree_best_fit<boost::interprocess::null_mutex_family, void*,
                                                  0> {
 public:
  explicit Heap(std::size_t size) : rbtree_best_fit(size, sizeof(Heap) - sizeof(rbtree_best_fit)) {}
};

UndumpedMemory::UndumpedMemory(std::size_t range) {
  for (range_ = round_up(range, growth); range_ >= growth; range_ = round_up(range_ / 2, growth)) {
    // Nothing may touch it yet, so it counts as no memory whatever the kernel's rules are.
    void* at =
        ::mmap(nullptr, range_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at != MAP_FAILED) {
      base_ = static_cast<std::byte*>(at);
      break;
    }
    if (range_ == growth) break;
  }
  if (base_ == nullptr) throw std::bad_alloc();
  ASSERT(::madvise(base_, range_, MADV_DONTDUMP) == 0);
  // A wish: large pages are found, read by a dump and freed at the end several times faster.
  (void)::madvise(base_, range_, MADV_HUGEPAGE);
  if (::mprotect(base_, growth, PROT_READ | PROT_WRITE) != 0) {
    ::munmap(base_, range_);
    throw std::bad_alloc();
  }
  mapped_ = growth;
  heap_ = new (base_) Heap(mapped_);
}

UndumpedMemory::~UndumpedMemory() {
  ::munmap(base_, range_);
}

std::size_t UndumpedMemory::mapped() const {
  std::lock_guard lock(mutex_);
  return mapped_;
}

std::size_t UndumpedMemory::used() const {
  std::lock_guard lock(mutex_);
  return heap_->get_size() - heap_->get_free_memory();
}

bool UndumpedMemory::check() const {
  std::lock_guard lock(mutex_);
  return heap_->check_sanity() && heap_->get_size() <= mapped_;
}

void* UndumpedMemory::try_allocate(std::size_t size, std::size_t alignment) {
  return alignment <= alignof(std::max_align_t) ? heap_->allocate(size)
                                                : heap_->allocate_aligned(size, alignment);
}

void* UndumpedMemory::do_allocate(std::size_t size, std::size_t alignment) {
  if (size > range_) throw std::bad_alloc();
  std::lock_guard lock(mutex_);
  void* p = try_allocate(size, alignment);
  if (p == nullptr && grow(size + alignment + overhead)) {
    p = try_allocate(size, alignment);
  }
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

// Less when the range ends; it may be enough with what is free before.
bool UndumpedMemory::grow(std::size_t size) {
  size = std::min(round_up(size, growth), range_ - mapped_);
  if (size == 0) return false;
  if (::mprotect(base_ + mapped_, size, PROT_READ | PROT_WRITE) != 0) return false;
  mapped_ += size;
  heap_->grow(mapped_ - heap_->get_size());
  return true;
}

void UndumpedMemory::do_deallocate(void* p, std::size_t size, std::size_t) {
  std::lock_guard lock(mutex_);
  heap_->deallocate(p);
  freed_ += size;
  if (freed_ >= trim_interval) {
    freed_ = 0;
    if (heap_->get_free_memory() > kept) trim();
  }
}

// What is free at the end is cut off, to see how much it is; most of it comes back at once.
void UndumpedMemory::trim() {
  heap_->shrink_to_fit();
  std::size_t end = round_up(heap_->get_size(), growth) + kept;
  if (end < mapped_) {
    std::size_t size = std::min(mapped_ - end, trim_at_most);
    std::byte* at = base_ + (mapped_ - size);
    bool given_back =
        ::madvise(at, size, MADV_DONTNEED) == 0 && ::mprotect(at, size, PROT_NONE) == 0;
    if (given_back) mapped_ -= size;
  }
  heap_->grow(mapped_ - heap_->get_size());
}

}  // namespace duet::platform
