// A block from the rest of its stripe. Accepted only if its checksum is right; with double parity,
// any one of the others is suspected in turn. What was found wrong is written again.
#include <bit>

#include "base/crc32c.h"
#include "raid/array_read.h"

namespace duet::raid {

void Array::Impl::rescue(const std::shared_ptr<RunRead>& run, std::size_t index, Trouble trouble,
                         bool hedged) {
  auto rescue = std::make_shared<Rescue>();
  rescue->run = run;
  rescue->index = index;
  rescue->trouble = trouble;
  rescue->hedged = hedged;
  rescue->key = stripe_key(run->group, run->block + index);
  rescue->crc = run->batch->blocks[run->first + index].crc;
  auto self = shared_from_this();
  if (locks.lock(rescue->key, [self, rescue] { self->rescue_locked(rescue); })) {
    rescue_locked(rescue);
  }
}

// What the disk did not give, or gave wrong, is asked for once more, alone.
void Array::Impl::rescue_locked(const std::shared_ptr<Rescue>& rescue) {
  const auto& run = rescue->run;
  const std::uint32_t member = run->of->members[run->column];
  if (!running() || run->answered[rescue->index]) return locks.unlock(rescue->key);
  if (rescue->trouble == Trouble::away || !readable(member, stripe_of(rescue->key))) {
    rescue->trouble = Trouble::away;
    return rescue_try(rescue);
  }
  auto buffer = make_raw_buffer(block_size);
  device_of(member)->read(stripe_of(rescue->key), buffer.bytes,
                          [self = shared_from_this(), rescue, member, buffer](Result<void> status) {
                            if (status && crc32c(buffer.bytes) == rescue->crc) {
                              self->answer(rescue->run, rescue->index, buffer.bytes);
                              return self->locks.unlock(rescue->key);
                            }
                            if (status || status.error().code == ErrorCode::io_error) {
                              ++self->members[member].read_errors;
                            } else {
                              rescue->trouble = Trouble::away;
                            }
                            self->rescue_try(rescue);
                          });
}

void Array::Impl::rescue_try(const std::shared_ptr<Rescue>& rescue) {
  if (rescue->run->of->geometry.parity == 0) {
    const bool away = rescue->trouble == Trouble::away;
    return rescue_failed(rescue, {away ? ErrorCode::disconnected : ErrorCode::io_error,
                                  away ? "its disk is away" : "no redundancy"});
  }
  // A disk that is away for a moment may answer for itself.
  const bool back = rescue->trouble == Trouble::away && !rescue->hedged;
  read_stripe(rescue->run->of, rescue->key, rescue->column(), back ? 0 : rescue->column(),
              [self = shared_from_this(), rescue](Result<StripeImage> image) {
                self->rescue_image(rescue, std::move(image));
              });
}

void Array::Impl::rescue_image(const std::shared_ptr<Rescue>& rescue, Result<StripeImage> image) {
  if (!image) return rescue_failed(rescue, image.error());
  const Geometry& geometry = rescue->run->of->geometry;
  const std::uint32_t column = rescue->run->column;
  if (crc32c(image->columns[column].bytes) == rescue->crc) {
    return rescue_found(rescue, *image, rescue->column() | image->bad);
  }
  if ((image->present & rescue->column()) != 0) {
    // It came back, and is wrong: from the others, then.
    ++members[rescue->run->of->members[column]].read_errors;
    rescue->trouble = Trouble::wrong;
    return rescue_try(rescue);
  }
  const ColumnMask missing = geometry.all() & ~image->present;
  for (std::uint32_t suspect = 0; suspect < geometry.columns(); ++suspect) {
    const ColumnMask bit = ColumnMask{1} << suspect;
    if (static_cast<std::uint32_t>(std::popcount(missing)) + 1 > geometry.parity) break;
    if ((missing & bit) != 0) continue;
    StripeImage other = *image;
    std::vector<std::byte*> columns(geometry.columns());
    for (std::uint32_t i = 0; i < columns.size(); ++i) {
      if (((missing | bit) >> i & 1) != 0) other.columns[i] = make_raw_buffer(block_size);
      columns[i] = other.columns[i].bytes.data();
    }
    reconstruct(geometry, columns, missing | bit, block_size);
    if (crc32c(other.columns[column].bytes) == rescue->crc) {
      ++members[rescue->run->of->members[suspect]].read_errors;
      return rescue_found(rescue, other, rescue->column() | bit | image->bad);
    }
  }
  rescue_failed(rescue, {ErrorCode::io_error, "its checksum is wrong whatever it is made from"});
}

void Array::Impl::rescue_found(const std::shared_ptr<Rescue>& rescue, const StripeImage& image,
                               ColumnMask wrong) {
  const auto& run = rescue->run;
  answer(run, rescue->index, image.columns[run->column].bytes);
  if (rescue->trouble == Trouble::away) wrong &= ~rescue->column();
  auto open = states[run->group].open.find(stripe_of(rescue->key));
  // A torn stripe has no parity to repair; its next write brings it.
  const bool torn = open != states[run->group].open.end() && open->second.torn != 0;
  if (torn) wrong &= run->of->geometry.data_mask() & ~open->second.torn;
  auto join =
      this->join([self = shared_from_this(), rescue](Status) { self->locks.unlock(rescue->key); });
  for (std::uint32_t column = 0; column < run->of->geometry.columns(); ++column) {
    const std::uint32_t member = run->of->members[column];
    if ((wrong >> column & 1) == 0 || !readable(member, stripe_of(rescue->key))) continue;
    write_member(member, stripe_of(rescue->key), {image.columns[column].slice()}, false,
                 [self = shared_from_this(), join, member, key = rescue->key](Status status) {
                   if (!status) return;
                   ++self->members[member].repaired;
                   self->event("block " + std::to_string(stripe_of(key)) + " of " +
                               self->describe(member) + " was wrong and has been repaired");
                 });
  }
}

void Array::Impl::rescue_failed(const std::shared_ptr<Rescue>& rescue, Error error) {
  locks.unlock(rescue->key);
  if (!rescue->hedged) give_up(rescue->run, rescue->index, std::move(error));
}

}  // namespace duet::raid
