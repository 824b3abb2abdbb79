// From a session to a disk: what is asked after each login, before the disk counts as connected.
#include <fmt/format.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "initiator/scsi_replies.h"
#include "platform/iscsi_disk.h"

namespace duet::platform {

using initiator::CommandKind;
using initiator::judge;
using initiator::parse_max_transfer_length;
using initiator::parse_read_capacity16;
using initiator::parse_unit_serial_number;
using initiator::parse_write_cache_enabled;
using initiator::Verdict;

void IscsiDisk::on_session(bool logged_in) {
  loop_.cancel(prepare_timer_);
  if (!logged_in) return disconnect();
  repeats_ = 0;
  prepare(Step::ready);
}

void IscsiDisk::prepare(Step step) {
  ScsiCommand command;
  switch (step) {
    case Step::ready:
      command.task.reset(scsi_cdb_testunitready());
      break;
    case Step::serial:
      command.task.reset(scsi_cdb_inquiry(1, 0x80, 255));
      break;
    case Step::limits:
      command.task.reset(scsi_cdb_inquiry(1, 0xb0, 64));
      break;
    case Step::capacity:
      command.task.reset(scsi_cdb_readcapacity16());
      break;
    case Step::caching:
      command.task.reset(
          scsi_cdb_modesense6(1, SCSI_MODESENSE_PC_CURRENT, SCSI_MODEPAGE_CACHING, 0, 64));
      break;
  }
  session_.submit(options_.lun, std::move(command), loop_.now() + options_.command_timeout,
                  [this, step](Result<ScsiReply> reply) { on_prepared(step, std::move(reply)); });
}

void IscsiDisk::on_prepared(Step step, Result<ScsiReply> reply) {
  if (step == Step::caching) asking_caching_ = false;
  if (!reply) return;  // the session begins anew by itself
  auto verdict = judge(reply->status, CommandKind::inquire);
  if (verdict.attention) {
    std::weak_ptr alive = alive_;
    report(*verdict.attention);
    if (alive.expired()) return;
  }
  if (connected_) {  // asked for the caching page once more: what we know stays if it fails
    if (verdict.action == Verdict::Action::succeed) (void)accept(step, *reply);
    return;
  }
  switch (verdict.action) {
    case Verdict::Action::succeed:
      break;
    case Verdict::Action::repeat_now:
      if (++repeats_ > max_repeats) return session_.reset("too many unit attentions");
      return prepare(step);
    case Verdict::Action::repeat_later:
      if (++repeats_ > max_repeats) return session_.reset("the disk does not get ready");
      return prepare_later(step);
    case Verdict::Action::fail:
      // Under a reservation of others some of this is refused; it is not needed for reservations.
      if (step == Step::serial || step == Step::capacity) {
        return session_.reset(fmt::format("not usable as a disk: {}", duet::name(verdict.error)));
      }
      return next_step(step);
  }
  if (auto accepted = accept(step, *reply); !accepted) {
    return session_.reset(accepted.error().message);
  }
  next_step(step);
}

void IscsiDisk::prepare_later(Step step) {
  prepare_timer_ = loop_.at(loop_.now() + pause, [this, step] { prepare(step); });
}

Status IscsiDisk::accept(Step step, const ScsiReply& reply) {
  switch (step) {
    case Step::ready:
      return {};
    case Step::serial: {
      auto serial = parse_unit_serial_number(reply.data_in);
      if (!serial) return std::unexpected(serial.error());
      if (!geometry_.serial.empty() && *serial != geometry_.serial) {
        stranger_ = fmt::format("{}: another disk answers: serial number {}, ours is {}", name(),
                                *serial, geometry_.serial);
        return fail(ErrorCode::invalid, stranger_);
      }
      geometry_.serial = *serial;
      stranger_.clear();
      return {};
    }
    case Step::limits: {
      max_transfer_ = options_.max_transfer;
      auto blocks = parse_max_transfer_length(reply.data_in);
      // In blocks; at least 4 KiB whatever it says, or nothing of ours would fit.
      if (blocks && *blocks != 0) {
        auto bytes = std::uint64_t{*blocks} * geometry_.block_size / 4096 * 4096;
        max_transfer_ = static_cast<std::uint32_t>(
            std::clamp<std::uint64_t>(bytes, 4096, options_.max_transfer));
      }
      return {};
    }
    case Step::capacity: {
      auto capacity = parse_read_capacity16(reply.data_in);
      if (!capacity) return std::unexpected(capacity.error());
      geometry_.size = capacity->size;
      geometry_.block_size = capacity->block_size;
      return {};
    }
    case Step::caching: {
      auto enabled = parse_write_cache_enabled(reply.data_in);
      geometry_.volatile_cache = !enabled || *enabled;
      caching_known_ = true;
      return {};
    }
  }
  UNREACHABLE();
}

void IscsiDisk::next_step(Step step) {
  repeats_ = 0;
  if (step != Step::caching) {
    if (step == Step::capacity) {
      geometry_.volatile_cache = true;  // until the disk says otherwise
      caching_known_ = false;
    }
    return prepare(static_cast<Step>(static_cast<int>(step) + 1));
  }
  connected_ = true;
  session_.settled();
  if (on_connection_) on_connection_(true);
}

void IscsiDisk::ask_caching() {
  if (!connected_ || std::exchange(asking_caching_, true)) return;
  prepare(Step::caching);
}

}  // namespace duet::platform
