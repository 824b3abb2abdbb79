#include "ha/dump_header.h"

#include "base/coverage.h"

namespace duet::ha {

using coredump::Attribute;

Result<coredump::Header> header_of(
    const std::array<std::optional<std::vector<std::byte>>, coredump::header_copies>& copies) {
  auto bytes = [](const auto& copy) { return copy ? Bytes(*copy) : Bytes(); };
  if (!copies[0] && !copies[1]) return fail(ErrorCode::io_error, "the header cannot be read");
  return coredump::choose_header(bytes(copies[0]), bytes(copies[1]));
}

void DumpHeader::start(Output& out) {
  for (int copy = 0; copy < coredump::header_copies; ++copy) {
    reads_[static_cast<std::size_t>(copy)] =
        out.disk(disk_, ReadBlock{coredump::header_copy(copy).offset});
  }
}

bool DumpHeader::on_completed(const DiskCompleted& event, Output& out) {
  for (std::size_t copy = 0; copy < reads_.size(); ++copy) {
    if (reads_[copy] != event.command) continue;
    reads_[copy].reset();
    const auto* bytes = event.reply ? std::get_if<std::vector<std::byte>>(&*event.reply) : nullptr;
    if (bytes != nullptr) copies_[copy] = *bytes;
    if (!reads_[0] && !reads_[1]) settle(out);
    return true;
  }
  if (!write_ || *write_ != event.command) return false;
  write_.reset();
  if (!event.reply) {
    MARK(dump_header_not_written);
    outcome_ = Outcome::failed;
  } else if (++writing_ == coredump::header_copies) {
    outcome_ = Outcome::done;
  } else {
    write_ = out.disk(disk_, WriteBlock{coredump::header_copy(writing_).offset, block_});
  }
  return true;
}

void DumpHeader::settle(Output& out) {
  auto found = header_of(copies_);
  if (!found && found.error().code == ErrorCode::io_error) {
    MARK(dump_header_unreadable);
    outcome_ = Outcome::failed;
    return;
  }
  outcome_ = Outcome::done;
  if (!found || found->cluster != rules_.cluster || found->disk != rules_.disk) return;
  header_ = *found;
  bool change = rules_.drop ? header_->attribute != Attribute::inactive
                            : header_->attribute == Attribute::active;
  if (!change) return;
  auto marked = *header_;
  ++marked.sequence;
  marked.attribute = rules_.drop ? Attribute::inactive : Attribute::aborted;
  marked.abort_reason = rules_.drop ? coredump::AbortReason::none : rules_.why;
  auto block = coredump::encode_header(marked);
  if (!block) {  // nothing comes after the highest sequence: it can never be marked
    header_.reset();
    return;
  }
  header_ = marked;
  block_ = std::move(*block);
  outcome_ = Outcome::running;
  write_ = out.disk(disk_, WriteBlock{coredump::header_copy(0).offset, block_});
}

}  // namespace duet::ha
