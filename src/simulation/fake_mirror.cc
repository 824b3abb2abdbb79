#include "simulation/fake_mirror.h"

#include <utility>

namespace duet::simulation {

void FakeMirror::post(ports::Task task) {
  scheduler_.post([alive = alive_, task = std::move(task)]() mutable {
    if (*alive) task();
  });
}

void FakeMirror::connect() {
  if (std::exchange(up_, true)) return;
  post([this] {
    if (on_outgoing_) on_outgoing_(true);
  });
}

void FakeMirror::disconnect() {
  if (!std::exchange(up_, false)) return;
  for (auto& write : std::exchange(under_way_, {})) {
    post([done = std::move(write.done)]() mutable {
      done(fail(ErrorCode::disconnected, "the mirror connection is gone"));
    });
  }
  post([this] {
    if (on_outgoing_) on_outgoing_(false);
  });
}

void FakeMirror::release() {
  holding_ = false;
  for (std::size_t i = 0; i < under_way_.size(); ++i) complete_soon();
}

void FakeMirror::fail_next() {
  fail_next_ = true;
}

void FakeMirror::write(std::uint64_t offset, std::uint64_t length, ports::Done<void> done) {
  ++writes_;
  if (!up_ || under_way_.size() >= max_writes) {
    auto code = up_ ? ErrorCode::busy : ErrorCode::disconnected;
    post([code, done = std::move(done)]() mutable { done(fail(code, "no mirror write now")); });
    return;
  }
  under_way_.push_back({offset, length, std::move(done)});
  if (!holding_) complete_soon();
}

void FakeMirror::complete_soon() {
  post([this] {
    if (!holding_ && !under_way_.empty()) complete_first();
  });
}

void FakeMirror::complete_first() {
  if (std::exchange(fail_next_, false)) {
    disconnect();
    return;
  }
  auto write = std::move(under_way_.front());
  under_way_.pop_front();
  partners_.copy(partners_.region().subspan(write.offset, write.length),
                 ours_.region().subspan(write.offset, write.length));
  write.done({});
}

}  // namespace duet::simulation
