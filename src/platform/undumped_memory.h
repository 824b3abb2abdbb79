// Memory that no core of this process holds (MADV_DONTDUMP), the kernel's or ours, unless it is
// asked for: one range of addresses that grows in steps, under the best-fit allocator of
// Boost.Interprocess, which joins free neighbours at once: memory of one size is memory of any
// other size afterwards. Thread-safe. Throws std::bad_alloc as operator new does.
#pragma once

#include <cstddef>
#include <memory_resource>
#include <mutex>

namespace duet::platform {

class UndumpedMemory final : public std::pmr::memory_resource {
 public:
  static constexpr std::size_t default_range = std::size_t{1} << 40;  // addresses, not memory
  static constexpr std::size_t growth = std::size_t{64} << 20;
  // So much stays at the end of the range when it is free: memory given back to the kernel is
  // cleared again page by page when it is needed next.
  static constexpr std::size_t kept = std::size_t{1} << 30;
  // The end is looked at each time that so much was freed, and at most so much is given back then:
  // both take time while clients wait.
  static constexpr std::size_t trim_interval = std::size_t{64} << 20;
  static constexpr std::size_t trim_at_most = std::size_t{256} << 20;

  // Less than `range` where the process may not have so many addresses. std::bad_alloc: not even
  // `growth`.
  explicit UndumpedMemory(std::size_t range = default_range);
  ~UndumpedMemory() override;
  UndumpedMemory(const UndumpedMemory&) = delete;
  UndumpedMemory& operator=(const UndumpedMemory&) = delete;

  std::size_t mapped() const;  // bytes that may be touched
  std::size_t used() const;    // bytes of it in allocations, with what these cost
  bool check() const;          // is it sane? For tests

 private:
  class Heap;

  void* do_allocate(std::size_t size, std::size_t alignment) override;
  void do_deallocate(void* p, std::size_t size, std::size_t alignment) override;
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }
  void* try_allocate(std::size_t size, std::size_t alignment);
  bool grow(std::size_t size);
  void trim();

  mutable std::mutex mutex_;
  std::byte* base_ = nullptr;
  std::size_t range_ = 0;
  std::size_t mapped_ = 0;
  std::size_t freed_ = 0;  // since the end was looked at
  Heap* heap_ = nullptr;   // at base_
};

}  // namespace duet::platform
