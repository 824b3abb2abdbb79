// One stripe, read with its lock held. A torn stripe (its last write has not ended well) is read as
// its untorn part: the parity of that part is in memory, the torn columns count as zeros.
#include <bit>

#include "raid/array_impl.h"

namespace duet::raid {

struct Array::Impl::StripeRead {
  Columns of;
  StripeKey key = 0;
  ColumnMask want = 0;
  ColumnMask avoid = 0;
  std::move_only_function<void(Result<StripeImage>)> done;
  StripeImage image;
  ColumnMask gone = 0;  // did not answer just now
  Instant begin{};
};

void Array::Impl::read_stripe(Columns of, StripeKey key, ColumnMask want, ColumnMask avoid,
                              std::move_only_function<void(Result<StripeImage>)> done) {
  auto read = std::make_shared<StripeRead>();
  read->of = std::move(of);
  read->key = key;
  read->want = want;
  read->avoid = avoid;
  read->done = std::move(done);
  read->begin = scheduler.now();
  try_stripe(read);
}

void Array::Impl::try_stripe(const std::shared_ptr<StripeRead>& read) {
  if (!running()) return read->done(std::unexpected(stopped().error()));
  const std::uint16_t group = group_of(read->key);
  const std::uint64_t stripe = stripe_of(read->key);
  const Geometry& geometry = read->of->geometry;
  read->image.columns.resize(geometry.columns());
  auto open = states[group].open.find(stripe);
  if (open != states[group].open.end() && open->second.torn != 0) {
    read->image.present |= open->second.torn | geometry.parity_mask();
    for (std::uint32_t i = 0; i < geometry.parity; ++i) {
      const auto& rest = open->second.rest;
      read->image.columns[geometry.data + i] = {
          rest.owner, rest.bytes.subspan(std::size_t{i} * block_size, block_size)};
    }
  }
  const ColumnMask can =
      readable_columns(*read->of, stripe) & ~read->avoid & ~read->gone & ~read->image.bad;
  // All of what is wanted, or else all there is.
  const bool direct = (read->want & ~(can | read->image.present)) == 0;
  const ColumnMask ask = (direct ? read->want & can : can) & ~read->image.present;
  auto join = this->join([self = shared_from_this(), read](Status) { self->stripe_arrived(read); });
  for (std::uint32_t column = 0; column < geometry.columns(); ++column) {
    if ((ask >> column & 1) == 0) continue;
    const std::uint32_t member = read->of->members[column];
    auto buffer = make_raw_buffer(block_size);
    device_of(member)->read(
        stripe, buffer.bytes,
        [self = shared_from_this(), read, join, column, member, buffer](Result<void> status) {
          const ColumnMask bit = ColumnMask{1} << column;
          if (status) {
            read->image.columns[column] = buffer;
            read->image.present |= bit;
          } else if (status.error().code == ErrorCode::reservation_conflict) {
            self->fence(status.error());
          } else if (status.error().code == ErrorCode::io_error) {
            ++self->members[member].read_errors;
            read->image.bad |= bit;
          } else {
            read->gone |= bit;
          }
        });
  }
}

void Array::Impl::stripe_arrived(const std::shared_ptr<StripeRead>& read) {
  if (!running()) return read->done(std::unexpected(stopped().error()));
  const Geometry& geometry = read->of->geometry;
  if ((read->want & ~read->image.present) == 0) return read->done(std::move(read->image));
  const ColumnMask missing = geometry.all() & ~read->image.present;
  const ColumnMask can = readable_columns(*read->of, stripe_of(read->key)) & ~read->avoid &
                         ~read->gone & ~read->image.bad & ~read->image.present;
  if (can != 0) return try_stripe(read);
  if (static_cast<std::uint32_t>(std::popcount(missing)) > geometry.parity) {
    return stripe_lacking(read);
  }
  std::vector<std::byte*> columns(geometry.columns());
  for (std::uint32_t i = 0; i < columns.size(); ++i) {
    OwnedBuffer& column = read->image.columns[i];
    if ((missing >> i & 1) != 0) column = make_raw_buffer(block_size);
    columns[i] = column.bytes.data();
  }
  reconstruct(geometry, columns, missing, block_size);
  read->done(std::move(read->image));
}

// Too little came. Who is away for a moment is waited for.
void Array::Impl::stripe_lacking(const std::shared_ptr<StripeRead>& read) {
  const std::uint16_t group = group_of(read->key);
  bool away = false;
  bool hope = false;
  for (std::uint32_t column = 0; column < read->of->geometry.columns(); ++column) {
    const ColumnMask bit = ColumnMask{1} << column;
    const std::uint32_t member = read->of->members[column];
    if (((read->image.present | read->avoid | read->image.bad) & bit) != 0 ||
        layout.members[member].state != MemberState::in_sync) {
      continue;
    }
    away = true;
    hope = hope || device_of(member) != nullptr;
  }
  if (hope && scheduler.now() - read->begin < options.patience) {
    read->gone = 0;
    scheduler.at(scheduler.now() + reconnect_delay,
                 [self = shared_from_this(), read] { self->try_stripe(read); });
    return;
  }
  const std::string where =
      "stripe " + std::to_string(stripe_of(read->key)) + " of group " + std::to_string(group);
  if (away) {
    return read->done(fail(ErrorCode::disconnected, where + ": too many members are away"));
  }
  read->done(fail(ErrorCode::io_error, where + " cannot be read"));
}

}  // namespace duet::raid
