#include "pool/checker.h"

#include <utility>

#include "pool/checker_impl.h"

namespace duet::pool {

Checker::Checker(ports::Scheduler& scheduler, Pool& pool, Options options)
    : impl_(std::make_shared<Impl>(scheduler, pool, std::move(options))) {}

Checker::~Checker() {
  cancel();
}

void Checker::start(ports::Done<CheckReport> done) {
  impl_->start(std::move(done));
}

void Checker::cancel() {
  if (!impl_->running_) return;
  impl_->stopped_ = true;
  impl_->finish(fail(ErrorCode::cancelled, "the check was cancelled"));
}

Checker::Progress Checker::progress() const {
  return {impl_->running_, impl_->report_.blocks, impl_->used_.size()};
}

// ---- the way through all of it ----

void Checker::Impl::soon(Then then) {
  scheduler_.post([self = shared_from_this(), then = std::move(then)] {
    if (!self->over()) then();
  });
}

bool Checker::Impl::over() {
  if (!running_) return true;
  if (!session_.expired()) return false;
  finish(fail(ErrorCode::cancelled, "the pool was closed"));
  return true;
}

void Checker::Impl::problem(std::string text) {
  if (++report_.problem_count <= problems_max) report_.problems.push_back(std::move(text));
}

void Checker::Impl::start(ports::Done<CheckReport> done) {
  done_ = std::move(done);
  running_ = true;
  if (pool_.array_ == nullptr ||
      (pool_.state() != StorageState::active && pool_.state() != StorageState::read_only)) {
    return finish(fail(ErrorCode::refused, "the pool is not open"));
  }
  session_ = pool_.session_;
  era_ = pool_.era_;
  superblock_ = pool_.superblock_;
  report_.generation = newest_ = superblock_.generation;
  shape_ = SpaceMap(superblock_.layout);
  if (!pool_.keeps_what_it_should()) {
    problem("what is kept for reservations in memory is not what volumes and LUNs say");
  }
  soon([this] { check_maps(); });
}

void Checker::Impl::finish(Status status) {
  if (!running_) return;
  running_ = false;
  era_.reset();
  stack_.clear();
  walked_ = nullptr;
  scheduler_.post([done = std::exchange(done_, nullptr), status = std::move(status),
                   report = std::move(report_)]() mutable {
    if (!status) return done(std::unexpected(status.error()));
    done(std::move(report));
  });
}

}  // namespace duet::pool
