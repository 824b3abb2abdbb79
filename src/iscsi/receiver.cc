#include "iscsi/receiver.h"

#include <algorithm>
#include <atomic>

#include "base/crc32c.h"
#include "base/data_memory.h"

namespace duet::iscsi {
namespace {

// A rest of a chunk smaller than this is not worth a system call.
constexpr std::size_t least_room = 4096;

// Nobody but us refers to the chunk: no data of it is in use any more.
bool unshared(const std::shared_ptr<std::byte[]>& chunk) {
  if (chunk.use_count() != 1) return false;
  std::atomic_thread_fence(std::memory_order_acquire);
  return true;
}

}  // namespace

Receiver::Chunk Receiver::fresh_chunk() {
  for (auto it = retired_.begin(); it != retired_.end(); ++it) {
    if (!unshared(*it)) continue;
    Chunk chunk = std::move(*it);
    retired_.erase(it);
    return chunk;
  }
  return make_raw_buffer(receive_chunk_size).owner;
}

MutableBytes Receiver::buffer() {
  if (chunk_ && parsed_ == filled_ && unshared(chunk_)) filled_ = parsed_ = 0;
  if (!chunk_ || receive_chunk_size - filled_ < least_room) {
    if (parsed_ < filled_) return {};
    if (chunk_) retired_.push_back(std::move(chunk_));
    if (retired_.size() > spare_chunks) retired_.erase(retired_.begin());
    chunk_ = fresh_chunk();
    filled_ = parsed_ = 0;
  }
  return {chunk_.get() + filled_, receive_chunk_size - filled_};
}

void Receiver::received(std::size_t size) {
  ASSERT(chunk_ && size <= receive_chunk_size - filled_);
  filled_ += size;
}

void Receiver::set_digests(bool header, bool data) {
  ASSERT(part_ == Part::header && collected_ == 0);
  header_digest_ = header;
  data_digest_ = data;
}

// Fills `target` with what is there; true when it is full.
bool Receiver::collect(std::span<std::byte> target) {
  std::size_t n = std::min(target.size() - collected_, filled_ - parsed_);
  if (n > 0) std::memcpy(target.data() + collected_, chunk_.get() + parsed_, n);
  parsed_ += n;
  collected_ += n;
  if (collected_ < target.size()) return false;
  collected_ = 0;
  return true;
}

// Appends data as slices; bytes that follow the last slice in the same chunk extend it.
bool Receiver::take_data() {
  std::size_t n = std::min(data_left_, filled_ - parsed_);
  if (n > 0) {
    const std::byte* begin = chunk_.get() + parsed_;
    if (!unit_.data.empty() && unit_.data.back().owner == chunk_ &&
        unit_.data.back().bytes.data() + unit_.data.back().bytes.size() == begin) {
      auto& bytes = unit_.data.back().bytes;
      bytes = Bytes(bytes.data(), bytes.size() + n);
    } else {
      unit_.data.push_back({chunk_, Bytes(begin, n)});
    }
  }
  parsed_ += n;
  data_left_ -= n;
  return data_left_ == 0;
}

Receiver::Outcome Receiver::next(ReceivedPdu& pdu) {
  while (true) {
    switch (part_) {
      case Part::header: {
        if (!collect(unit_.header)) return Outcome::need_more;
        auto lengths = lengths_of(unit_.header);
        if (lengths.data > max_data_) return Outcome::too_long;
        unit_.data_size = data_left_ = lengths.data;
        extra_.resize(lengths.additional_header + (header_digest_ ? digest_size : 0));
        trailer_size_ = 0;
        if (lengths.data > 0) {
          trailer_size_ = padded(lengths.data) - lengths.data + (data_digest_ ? digest_size : 0);
        }
        part_ = Part::additional_header;
        break;
      }
      case Part::additional_header:
        if (!collect(extra_)) return Outcome::need_more;
        if (header_digest_ && !header_digest_ok()) return Outcome::digest_error;
        extra_.resize(extra_.size() - (header_digest_ ? digest_size : 0));
        part_ = Part::data;
        break;
      case Part::data:
        if (!take_data()) return Outcome::need_more;
        part_ = Part::trailer;
        break;
      case Part::trailer:
        if (!collect(std::span(trailer_).first(trailer_size_))) return Outcome::need_more;
        if (data_digest_ && unit_.data_size > 0 && !data_digest_ok()) return Outcome::digest_error;
        part_ = Part::header;
        unit_.additional_header.swap(extra_);
        pdu.header = unit_.header;
        pdu.additional_header.swap(unit_.additional_header);
        pdu.data = std::move(unit_.data);
        pdu.data_size = unit_.data_size;
        unit_.data.clear();
        return Outcome::pdu;
    }
  }
}

// Digests are the CRC in little-endian order (RFC 7143 13.1, RFC 3720 B.4).
bool Receiver::header_digest_ok() const {
  Bytes extra(extra_);
  Bytes segments = extra.first(extra.size() - digest_size);
  return crc32c_extend(crc32c(unit_.header), segments) ==
         load_le<std::uint32_t>(extra.data() + segments.size());
}

bool Receiver::data_digest_ok() const {
  std::uint32_t crc = 0;
  for (const auto& slice : unit_.data) crc = crc32c_extend(crc, slice.bytes);
  std::size_t padding = trailer_size_ - digest_size;
  crc = crc32c_extend(crc, Bytes(trailer_).first(padding));
  return crc == load_le<std::uint32_t>(trailer_.data() + padding);
}

}  // namespace duet::iscsi
