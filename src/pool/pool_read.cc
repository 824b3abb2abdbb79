// Reads of a Pool: from memory at once, the rest from the disks.
#include <algorithm>
#include <utility>

#include "pool/flush.h"
#include "pool/pool.h"

namespace duet::pool {

struct Pool::Reading {
  // One block of the range: what lies under the sectors that wait in memory.
  struct Part {
    Slice base;            // whole, unless it is read
    std::size_t read = 0;  // number of the read, from 1; 0: none
    DirtyBlock flushing;   // valid sectors over the base
    DirtyBlock dirty;      // valid sectors over that
  };
  std::shared_ptr<File> file;
  FileKey key;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  ports::Done<std::vector<Slice>> done;
  Look look;
  std::vector<Part> parts;
  std::vector<BlockPointer> pointers;  // to read
  OwnedBuffer buffer;                  // for them
  std::shared_ptr<Pins> pins = std::make_shared<Pins>();
  std::shared_ptr<Era> era;
  std::weak_ptr<Session> session;
};

void Pool::read_file(FileKey key, std::uint64_t offset, std::uint64_t length,
                     ports::Done<std::vector<Slice>> done, Look look) {
  if (state_ != StorageState::read_only && state_ != StorageState::active) {
    return fail_later(done, {ErrorCode::refused, "the pool is not open: " + health_});
  }
  auto reading = std::make_shared<Reading>();
  reading->key = key;
  reading->offset = offset;
  reading->length = length;
  reading->done = std::move(done);
  reading->look = std::move(look);
  reading->session = session_;
  read_more(reading);
}

// Looks at every block of the range; reads what is needed to look, and then all that is needed.
void Pool::read_more(const std::shared_ptr<Reading>& reading) {
  if (!reading->era) reading->era = era_;  // the first one: what is pinned stays what it is
  reading->parts.clear();
  reading->pointers.clear();
  pins_ = reading->pins.get();
  missing_.clear();
  std::optional<Error> error;
  auto found = file(reading->key);
  if (found) {
    reading->file = files_.at(reading->key);
    File& file = **found;
    const std::uint64_t end = (reading->offset + reading->length + block_size - 1) / block_size;
    for (std::uint64_t number = reading->offset / block_size; number < end; ++number) {
      Reading::Part part;
      part.base = zero_block();
      if (const DirtyBlock* dirty = file.dirty.find(number)) part.dirty = *dirty;
      const bool zeroed = part.dirty.valid == 0 && file.dirty.zeroed(number);
      const DirtyBlock* flushing = file.flushing.find(number);
      if (part.dirty.whole()) {
        part.base = part.dirty.slice;
      } else if (!zeroed && flushing != nullptr && flushing->whole()) {
        part.base = flushing->slice;
      } else if (!zeroed && (flushing != nullptr || !file.flushing.zeroed(number))) {
        if (flushing != nullptr) part.flushing = *flushing;
        auto pointer = resolve(file.root(), number);
        if (!pointer && missing_.empty()) error = pointer.error();
        if (pointer && !pointer->hole()) part.base = cached(*pointer);
        if (part.base.bytes.empty()) {
          reading->pointers.push_back(*pointer);
          part.read = reading->pointers.size();
        }
      }
      reading->parts.push_back(std::move(part));
    }
  } else if (missing_.empty()) {
    error = found.error();
  }
  pins_ = nullptr;
  if (found && missing_.empty() && !error && reading->look) {
    if (auto good = reading->look((*found)->inode); !good) error = good.error();
  }
  if (error) return fail_later(reading->done, std::move(*error));
  if (!missing_.empty()) {
    return fetch(std::exchange(missing_, {}), reading->pins, [this, reading](Status status) {
      if (reading->session.expired()) {
        return reading->done(fail(ErrorCode::cancelled, "the pool was closed"));
      }
      if (!status) return reading->done(std::unexpected(status.error()));
      read_more(reading);
    });
  }
  if (reading->pointers.empty()) {
    return scheduler_.post([reading] { finish_reading(reading); });
  }
  reading->buffer = make_buffer(reading->pointers.size() * block_size);
  std::vector<raid::BlockRead> reads;
  for (std::size_t i = 0; i < reading->pointers.size(); ++i) {
    reads.push_back({reading->pointers[i].address, reading->pointers[i].crc,
                     reading->buffer.bytes.subspan(i * block_size, block_size)});
  }
  array_->read(std::move(reads), [this, reading](Status status) {
    if (reading->session.expired()) {
      return reading->done(fail(ErrorCode::cancelled, "the pool was closed"));
    }
    if (!status) return reading->done(std::unexpected(status.error()));
    if (reading->length <= cached_read_max) {
      for (std::size_t i = 0; i < reading->pointers.size(); ++i) {
        data_.insert(reading->pointers[i].address,
                     copy_to_slice(reading->buffer.bytes.subspan(i * block_size, block_size)));
      }
    }
    finish_reading(reading);
  });
}

void Pool::finish_reading(const std::shared_ptr<Reading>& reading) {
  if (reading->file->freed)
    return reading->done(fail(ErrorCode::not_found, "the file was removed"));
  std::vector<Slice> slices;
  std::uint64_t at = reading->offset % block_size;
  std::uint64_t left = reading->length;
  for (Reading::Part& part : reading->parts) {
    Slice block = std::move(part.base);
    if (part.read > 0) {
      block = {reading->buffer.owner,
               Bytes(reading->buffer.bytes).subspan((part.read - 1) * block_size, block_size)};
    }
    for (const DirtyBlock* over : {&part.flushing, &part.dirty}) {
      if (over->valid != 0 && !over->whole()) block = over->over(block);
    }
    const std::uint64_t size = std::min<std::uint64_t>(block_size - at, left);
    block.bytes = block.bytes.subspan(at, size);
    // Neighbours in memory are one slice.
    if (!slices.empty() && slices.back().owner == block.owner &&
        slices.back().bytes.data() + slices.back().bytes.size() == block.bytes.data()) {
      slices.back().bytes = {slices.back().bytes.data(), slices.back().bytes.size() + size};
    } else {
      slices.push_back(std::move(block));
    }
    at = 0;
    left -= size;
  }
  reading->done(std::move(slices));
}

}  // namespace duet::pool
