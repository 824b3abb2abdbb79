#include "coredump/dump_writer.h"

#include <algorithm>
#include <mutex>
#include <utility>

namespace duet::coredump {

ReadCore read_from(Bytes core) {
  return [core](MutableBytes out) mutable {
    const auto part = core.first(std::min(core.size(), out.size()));
    std::ranges::copy(part, out.begin());
    core = core.subspan(part.size());
    return part.size();
  };
}

Information information_of(const ports::CoreSource::Dump& order) {
  Information said;
  said.node = order.node;
  said.epoch = order.epoch;
  said.boot_nonce = order.boot_nonce;
  said.log_written = order.log_written;
  said.log_freed = order.log_freed;
  said.wall_time = order.wall_time;
  said.version = order.version;
  said.reason = order.reason;
  return said;
}

// Of one size; each comes back when the last slice of it is gone. Memory is touched for the first
// time only once, and pages cost more than compressing them.
class DumpWriter::Buffers : public std::enable_shared_from_this<Buffers> {
 public:
  explicit Buffers(std::size_t size) : size_(size) {}
  OwnedBuffer take() {
    auto buffer = reuse();
    if (!buffer) buffer = std::make_unique_for_overwrite<std::byte[]>(size_);
    const MutableBytes bytes(buffer.get(), size_);
    return {
        std::shared_ptr<std::byte[]>(
            buffer.release(), [self = shared_from_this()](std::byte* p) { self->give_back(p); }),
        bytes};
  }

 private:
  std::unique_ptr<std::byte[]> reuse() {
    std::lock_guard lock(mutex_);
    if (free_.empty()) return nullptr;
    auto buffer = std::move(free_.back());
    free_.pop_back();
    return buffer;
  }
  void give_back(std::byte* p) {
    std::lock_guard lock(mutex_);
    free_.emplace_back(p);
  }
  const std::size_t size_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<std::byte[]>> free_;
};

DumpWriter::DumpWriter(std::unique_ptr<ChunkWriter> writer, std::vector<std::byte> information,
                       std::uint64_t room, std::uint64_t core, ReadCore read, Limits limits)
    : writer_(std::move(writer)),
      room_(room),
      core_(core),
      read_(std::move(read)),
      limits_(limits),
      information_(std::move(information)),
      plain_(limits.chunk),
      buffers_(std::make_shared<Buffers>(limits.size + chunk_bound(max_plain_size))) {}

Result<std::unique_ptr<DumpWriter>> DumpWriter::make(const Information& information,
                                                     std::uint64_t room, std::uint64_t core,
                                                     ReadCore read, Limits limits) {
  ASSERT(limits.chunk > 0 && limits.chunk <= max_plain_size && limits.chunks > 0);
  auto writer = ChunkWriter::make({information.boot_nonce, information.epoch}, room);
  if (!writer) return std::unexpected(writer.error());
  return std::unique_ptr<DumpWriter>(new DumpWriter(
      std::move(*writer), encode_information(information), room, core, std::move(read), limits));
}

Result<DumpWriter::Piece> DumpWriter::next(int effort) {
  auto buffer = buffers_->take();
  Piece piece{.blocks = {}, .core_done = 0, .core_total = core_, .last = false};
  std::size_t size = 0;
  for (int chunks = 0; chunks < limits_.chunks && size < limits_.size && !piece.last; ++chunks) {
    auto added = chunk(buffer.bytes.subspan(size), effort, piece.last);
    if (!added && chunks == 0) return std::unexpected(added.error());
    if (!added) break;  // it fails again: after what came before
    size += *added;
  }
  piece.blocks = {buffer.owner, buffer.bytes.first(size)};
  piece.core_done = writer_->core_done();
  return piece;
}

Result<std::size_t> DumpWriter::chunk(MutableBytes out, int effort, bool& last) {
  if (failed_) return std::unexpected(*failed_);
  const std::uint64_t left = core_ - writer_->core_done();
  const bool roomy = room_ - writer_->stored() > left + left / 64;
  Result<std::size_t> size = 0;
  if (!information_.empty()) {
    size = writer_->put(ChunkKind::information, std::exchange(information_, {}), out);
  } else if (auto n = read_(plain_); n > 0) {
    size = writer_->put(ChunkKind::core, Bytes(plain_).first(n), out, roomy ? effort : 0);
  } else {
    size = writer_->end(out);
    last = true;
  }
  if (!size) failed_ = size.error();
  return size;
}

}  // namespace duet::coredump
