#include "ha/mailbox_keeper.h"

#include <algorithm>

#include "base/assert.h"
#include "base/coverage.h"
#include "disk/areas.h"

namespace duet::ha {

using Kind = MailboxKeeper::Outcome::Kind;

void MailboxKeeper::read(Purpose purpose, Output& out) {
  outcome_.reset();
  reading_ = Reading{};
  reading_->purpose = purpose;
  reading_->answered.resize(disks_);
  reading_->errors.resize(disks_);
  for (std::uint8_t disk = 0; disk < disks_; ++disk) {
    if (contains(left_out_, disk)) continue;
    for (int copy = 0; copy < disk::mailbox_copies; ++copy) {
      auto id = out.disk({identity_, disk}, ReadBlock{disk::mailbox_copy(copy).offset});
      reading_->open.emplace(id, Place{disk, copy});
    }
  }
}

void MailboxKeeper::on_read(const Place& place, const Result<DiskReply>& reply) {
  if (!reply) {
    reading_->kept_out |= reply.error().code == ErrorCode::reservation_conflict;
    reading_->why = reply.error().message;
    reading_->errors[place.disk] = true;
    return;
  }
  auto* bytes = std::get_if<std::vector<std::byte>>(&*reply);
  if (bytes == nullptr) return;
  auto mailbox = decode_mailbox(*bytes);
  if (!mailbox) {
    MARK(mailbox_copy_invalid);
    reading_->other_version |= mailbox.error().code == ErrorCode::unsupported_version;
    reading_->why = mailbox.error().message;
  } else if (mailbox->cluster != cluster_ || mailbox->identity != identity_) {
    reading_->why = "the mailbox of another cluster or identity";
  } else {
    reading_->answered[place.disk] = true;
    reading_->valid.push_back(std::move(*mailbox));
  }
}

void MailboxKeeper::finish_read() {
  Reading done = std::move(*reading_);
  reading_.reset();
  Outcome outcome;
  outcome.purpose = done.purpose;
  outcome.kind = Kind::unknown;
  outcome.all_answered = true;
  outcome.kept_out = done.kept_out;
  outcome.why = done.why;
  auto answered = static_cast<std::size_t>(std::ranges::count(done.answered, true));
  // A disk that was read and holds nothing valid has nothing more to say: it is damaged or new.
  for (std::uint8_t disk = 0; disk < disks_; ++disk) {
    if (done.errors[disk] && !done.answered[disk]) outcome.all_answered = false;
  }
  const Mailbox* best = nullptr;
  bool contradiction = false;
  for (const auto& m : done.valid) {
    if (best == nullptr || m.generation > best->generation) {
      best = &m;
      contradiction = false;
    } else if (m.generation == best->generation && m != *best) {
      MARK(mailbox_contradiction);
      contradiction = true;
    }
  }
  if (best != nullptr) highest_generation_ = std::max(highest_generation_, best->generation);
  outcome.other_version = done.other_version;
  if (done.other_version) {
    MARK(mailbox_other_version);
    outcome.why = "written by another version of Duet";
  } else if (contradiction) {
    outcome.why = "two different mailboxes of the same generation";
  } else if (answered >= enough_to_read()) {
    outcome.kind = Kind::known;
    outcome.mailbox = *best;
  }
  outcome_ = std::move(outcome);
}

void MailboxKeeper::write(Purpose purpose, Mailbox mailbox, Output& out) {
  ASSERT(!writing_);
  reading_.reset();
  outcome_.reset();
  highest_generation_ = std::max(highest_generation_, mailbox.generation);
  writing_ = Writing{};
  writing_->purpose = purpose;
  writing_->block = encode(mailbox);
  writing_->mailbox = std::move(mailbox);
  std::vector<std::uint8_t> all;
  for (std::uint8_t i = 0; i < disks_; ++i) {
    if (!contains(left_out_, i)) all.push_back(i);
  }
  write_copy(all, out);
}

void MailboxKeeper::write_copy(const std::vector<std::uint8_t>& disks, Output& out) {
  for (auto disk : disks) {
    auto id = out.disk({identity_, disk},
                       WriteBlock{disk::mailbox_copy(writing_->copy).offset, writing_->block});
    writing_->open.emplace(id, Place{disk, writing_->copy});
  }
}

void MailboxKeeper::abandon_write() {
  if (writing_) writing_->abandoned = true;
}

void MailboxKeeper::on_aborted(std::uint8_t disk) {
  if (!writing_) return;
  writing_->abandoned = true;
  std::erase_if(writing_->open, [&](const auto& open) { return open.second.disk == disk; });
  if (!writing_->open.empty()) return;
  MARK(mailbox_write_aborted);
  writing_.reset();
}

void MailboxKeeper::finish_copy(Output& out) {
  if (writing_->abandoned) {
    MARK(mailbox_write_abandoned);
    writing_.reset();
    return;
  }
  bool enough = writing_->took.size() >= majority();
  if (enough && !writing_->fenced && writing_->copy == 0) {
    writing_->copy = 1;
    auto disks = std::exchange(writing_->took, {});
    return write_copy(disks, out);
  }
  Kind kind = writing_->fenced ? Kind::fenced : enough ? Kind::written : Kind::write_failed;
  outcome_ = Outcome{.purpose = writing_->purpose,
                     .kind = kind,
                     .mailbox = std::move(writing_->mailbox),
                     .all_answered = writing_->took.size() == disks_,
                     .kept_out = writing_->fenced,
                     .why = std::move(writing_->why)};
  writing_.reset();
}

bool MailboxKeeper::on_completed(const DiskCompleted& event, Output& out) {
  if (reading_) {
    if (auto open = reading_->open.find(event.command); open != reading_->open.end()) {
      on_read(open->second, event.reply);
      reading_->open.erase(open);
      if (reading_->open.empty()) finish_read();
      return true;
    }
  }
  if (writing_) {
    if (auto open = writing_->open.find(event.command); open != writing_->open.end()) {
      if (event.reply) {
        writing_->took.push_back(open->second.disk);
      } else {
        writing_->fenced |= event.reply.error().code == ErrorCode::reservation_conflict;
        writing_->why = event.reply.error().message;
        MARK(mailbox_write_error);
      }
      writing_->open.erase(open);
      if (writing_->open.empty()) finish_copy(out);
      return true;
    }
  }
  return false;
}

std::optional<MailboxKeeper::Outcome> MailboxKeeper::take_outcome() {
  return std::exchange(outcome_, std::nullopt);
}

}  // namespace duet::ha
