#include "platform/engine_core.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

#include "platform/elf_build_id.h"

namespace duet::platform {
namespace {

constexpr int lowest_priority = 19;
constexpr std::size_t max_frames = 48;
constexpr std::uint64_t max_search = 8192;  // bytes of stack

// The mapping that holds `address`; null: none.
const coredump::Mapping* mapping_of(const coredump::ProcessImage& image, std::uint64_t address) {
  auto it = std::ranges::find_if(image.mappings, [&](const coredump::Mapping& m) {
    return m.start <= address && address < m.end;
  });
  return it == image.mappings.end() ? nullptr : &*it;
}

std::string frame_text(const coredump::ProcessImage& image, std::uint64_t address) {
  const auto* mapping = mapping_of(image, address);
  if (mapping == nullptr || mapping->path.empty()) return fmt::format("{:#x}", address);
  auto slash = mapping->path.rfind('/');
  auto name = slash == std::string::npos ? mapping->path : mapping->path.substr(slash + 1);
  return fmt::format("{}+{:#x}", name, address - mapping->start + mapping->offset);
}

std::string thread_name(pid_t pid, std::uint32_t thread) {
  std::ifstream file(fmt::format("/proc/{}/task/{}/comm", pid, thread));
  std::string name;
  std::getline(file, name);
  return name;
}

}  // namespace

EngineCore::~EngineCore() {
  *alive_ = false;
  leave();
  if (thread_.joinable()) thread_.join();
}

void EngineCore::leave() {
  std::lock_guard lock(mutex_);
  state_ = State::leaving;
  changed_.notify_all();
}

void EngineCore::stop(ports::Done<void> done) {
  ASSERT(!thread_.joinable());
  stop_done_ = std::move(done);
  thread_ = std::thread([this] { run(); });
}

void EngineCore::begin(Dump dump) {
  std::lock_guard lock(mutex_);
  if (state_ != State::stopped) return;  // leaving
  dump_ = std::move(dump);
  state_ = State::streaming;
  changed_.notify_all();
}

void EngineCore::next(ports::Done<Piece> done) {
  ASSERT(!next_done_);
  next_done_ = std::move(done);
  loop_.post([this, alive = alive_] {
    if (*alive) deliver();
  });
}

void EngineCore::deliver() {
  if (!next_done_) return;
  std::optional<Result<Piece>> piece;
  {
    std::lock_guard lock(mutex_);
    if (!ready_.empty()) {
      piece = std::move(ready_.front());
      ready_.pop_front();
      changed_.notify_all();
    } else if (state_ == State::leaving) {
      piece = fail(ErrorCode::not_found, "the engine has ended");
    } else {
      hungry_ = true;
    }
  }
  if (piece) std::exchange(next_done_, nullptr)(std::move(*piece));
}

// ---- the thread ----

void EngineCore::run() {
  // Compressing takes what time is left by a takeover on the same processors. A wish.
  (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), lowest_priority);
  auto stopped = stop_threads();
  std::unique_lock lock(mutex_);
  if (state_ == State::stopping) state_ = State::stopped;
  loop_.post_from_any_thread([this, alive = alive_, stopped] {
    if (*alive) std::exchange(stop_done_, nullptr)(stopped);
  });
  Duration waited{};  // because so much was ready
  while (state_ != State::leaving) {
    bool work = state_ == State::streaming && !finished_ && ready_.size() < max_ahead;
    if (!work) {
      const bool full = ready_.size() == max_ahead;
      const Instant since = loop_.now();
      changed_.wait(lock);
      if (full) waited += loop_.now() - since;
      continue;
    }
    const bool hungry = std::exchange(hungry_, false);
    lock.unlock();
    auto piece = produce(std::exchange(waited, {}), hungry);
    lock.lock();
    finished_ = !piece || piece->last;
    ready_.push_back(std::move(piece));
    loop_.post_from_any_thread([this, alive = alive_] {
      if (*alive) deliver();
    });
  }
  lock.unlock();
  // Its end is seen only when its tracer has taken leave of every thread.
  if (process_) process_->end(end_limit);
  process_.reset();
}

Result<void> EngineCore::stop_threads() {
  auto process = TracedProcess::stop(pid_, stop_limit);
  if (!process) return std::unexpected(process.error());
  process_ = std::move(*process);
  Failure failure;
  failure.thread = report_.thread;
  failure.signal = report_.signal;
  if (report_.signal != 0) {
    failure.signal_information.resize(sizeof report_.information);
    std::memcpy(failure.signal_information.data(), &report_.information,
                sizeof report_.information);
  }
  auto image = process_->image(failure);
  if (!image) return std::unexpected(image.error());
  image_ = std::move(*image);
  std::error_code error;
  program_ = std::filesystem::read_symlink(fmt::format("/proc/{}/exe", pid_), error).string();
  return {};
}

// By frame pointers, as all our code has them, from where the signal came. The C library has none,
// and abort() is there: then from the first place on its stack that leads back to our program.
std::vector<std::string> EngineCore::stack() const {
  std::vector<std::string> frames;
  const auto* stack = mapping_of(image_, report_.stack_pointer);
  if (report_.signal == 0) return frames;
  frames.push_back(frame_text(image_, report_.instruction));
  if (stack == nullptr) return frames;
  auto inside = [&](std::uint64_t address) {
    return address % 8 == 0 && address >= stack->start && address < stack->end - 16;
  };
  auto words_at = [&](std::uint64_t address) {  // of a frame: its caller's, and where that goes on
    std::array<std::uint64_t, 2> words{};
    process_->read_memory(address, std::as_writable_bytes(std::span(words)));
    return words;
  };
  auto ours = [&](std::uint64_t address) {
    const auto* code = mapping_of(image_, address);
    return code != nullptr && code->execute && code->path == program_;
  };
  auto frame = report_.frame_pointer;
  if (!ours(report_.instruction)) {
    auto at = report_.stack_pointer & ~std::uint64_t{7};
    const auto end = at + max_search;
    while (at < end && inside(at) && !ours(words_at(at)[0])) at += 8;
    if (at >= end || !inside(at)) return frames;
    frames.push_back(frame_text(image_, words_at(at)[0]));
    auto is_frame = [&](std::uint64_t address) {
      auto words = words_at(address);
      return inside(words[0]) && words[0] > address && ours(words[1]);
    };
    for (at += 8; at < end && inside(at) && !is_frame(at);) at += 8;
    frame = at;
  }
  while (frames.size() < max_frames && inside(frame)) {
    auto words = words_at(frame);
    if (words[1] == 0) break;
    frames.push_back(frame_text(image_, words[1]));
    if (words[0] <= frame) break;  // stacks grow down
    frame = words[0];
  }
  return frames;
}

coredump::Information EngineCore::information() const {
  auto said = coredump::information_of(*dump_);
  said.signal = static_cast<std::uint32_t>(std::max(0, report_.signal));
  said.thread = report_.thread;
  said.build_id = elf_build_id(fmt::format("/proc/{}/exe", pid_));
  said.thread_name = thread_name(pid_, report_.thread);
  said.stack = stack();
  return said;
}

Result<ports::CoreSource::Piece> EngineCore::produce(Duration waited, bool hungry) {
  if (!writer_) {
    stream_.emplace(coredump::lay_out_core(image_, dump_->cache),
                    [this](std::uint64_t address, MutableBytes out) {
                      return process_->read_memory(address, out);
                    });
    auto writer =
        coredump::DumpWriter::make(information(), dump_->room, stream_->total(),
                                   [this](MutableBytes out) { return stream_->next(out); });
    if (!writer) return std::unexpected(writer.error());
    writer_ = std::move(*writer);
  }
  const Instant begun = loop_.now();
  const auto core_before = core_done_;
  auto piece = writer_->next(effort_.value());
  if (process_->memory_gone()) return fail(ErrorCode::not_found, "the engine has ended");
  if (!piece) return piece;
  core_done_ = piece->core_done;
  effort_.on_piece({.waited = waited,
                    .made = loop_.now() - begun,
                    .hungry = hungry,
                    .plain = core_done_ - core_before,
                    .stored = piece->blocks.bytes.size()});
  return piece;
}

}  // namespace duet::platform
