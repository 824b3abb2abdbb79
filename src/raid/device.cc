#include "raid/device.h"

#include <utility>

namespace duet::raid {

std::uint64_t Device::blocks() const {
  const std::uint64_t size = disk_.port->geometry().size;
  return size > disk_.data_offset ? (size - disk_.data_offset) / block_size : 0;
}

void Device::read(std::uint64_t block, MutableBytes into, ports::Done<void> done) {
  auto operation = std::make_shared<Operation>();
  operation->offset = disk_.data_offset + block * block_size;
  operation->into = into;
  operation->done = std::move(done);
  reads_.push_back(std::move(operation));
  start_next();
}

void Device::write(std::uint64_t block, std::vector<Slice> data, bool durable,
                   ports::Done<void> done) {
  auto operation = std::make_shared<Operation>();
  operation->kind = Kind::write;
  operation->offset = disk_.data_offset + block * block_size;
  operation->data = std::move(data);
  operation->durable = durable;
  operation->done = std::move(done);
  writes_.push_back(std::move(operation));
  start_next();
}

void Device::flush(ports::Done<void> done) {
  auto operation = std::make_shared<Operation>();
  operation->kind = Kind::flush;
  operation->done = std::move(done);
  operation->dirty = written_;
  if (written_ == flushed_) {
    scheduler_.post([operation] { operation->done({}); });
    return;
  }
  writes_.push_back(std::move(operation));
  start_next();
}

void Device::give_up() {
  given_up_ = true;
  start_next();
}

void Device::start_next() {
  while (!reads_.empty() && (given_up_ || reading_ < reads_max_)) {
    auto operation = std::move(reads_.front());
    reads_.pop_front();
    ++reading_;
    issue(operation);
  }
  while (!writes_.empty() && (given_up_ || writing_ < writes_max_)) {
    auto operation = std::move(writes_.front());
    writes_.pop_front();
    ++writing_;
    operation->begin = scheduler_.now();
    issue(operation);
  }
}

void Device::issue(const Pointer& operation) {
  ++operation->tries;
  auto done = [self = shared_from_this(), operation](Result<void> status) {
    self->ended(operation, std::move(status));
  };
  if (given_up_) {
    scheduler_.post([done = std::move(done)]() mutable {
      done(fail(ErrorCode::cancelled, "the disk is not used any more"));
    });
    return;
  }
  switch (operation->kind) {
    case Kind::read:
      disk_.port->read(operation->offset, operation->into, std::move(done));
      return;
    case Kind::write:
      disk_.port->write(operation->offset, operation->data, operation->durable, std::move(done));
      return;
    case Kind::flush:
      disk_.port->flush(std::move(done));
      return;
  }
}

void Device::ended(const Pointer& operation, Status status) {
  const bool again =
      !status && operation->kind != Kind::read && !given_up_ &&
      status.error().code != ErrorCode::reservation_conflict &&
      (operation->tries < min_write_tries || scheduler_.now() - operation->begin < patience_);
  if (!again) return finish(operation, std::move(status));
  scheduler_.at(scheduler_.now() + write_retry_delay,
                [self = shared_from_this(), operation] { self->issue(operation); });
}

void Device::finish(const Pointer& operation, Status status) {
  --(operation->kind == Kind::read ? reading_ : writing_);
  if (status && operation->kind == Kind::write && !operation->durable) ++written_;
  if (status && operation->kind == Kind::flush) flushed_ = std::max(flushed_, operation->dirty);
  auto done = std::move(operation->done);
  done(std::move(status));
  start_next();
}

}  // namespace duet::raid
