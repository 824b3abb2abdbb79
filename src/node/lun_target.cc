#include "node/lun_target.h"

#include <algorithm>
#include <utility>

namespace duet::node {
namespace {

using Outcome = scsi::StoreDone::Outcome;

// Storage errors as SCSI sees them (docs/protocols/lun_service.md). Never a permanent error for
// what passes.
Outcome outcome_of(ErrorCode code, Outcome medium) {
  switch (code) {
    case ErrorCode::no_space:
      return Outcome::no_space;
    case ErrorCode::reservation_conflict:
    case ErrorCode::cancelled:
    case ErrorCode::refused:
      return Outcome::not_ready;
    case ErrorCode::busy:
    case ErrorCode::timed_out:
    case ErrorCode::disconnected:
      return Outcome::busy;
    case ErrorCode::invalid:
    case ErrorCode::unsupported_version:
    case ErrorCode::not_found:
    case ErrorCode::already_exists:
    case ErrorCode::io_error:
      return medium;
  }
  return medium;
}

Result<scsi::LogicalUnit> make_unit(const filesystem::LunInfo& lun, const std::string& target) {
  scsi::UnitConfig config;
  config.product = "LUN";
  config.serial = lun.serial;
  config.naa = lun.naa;
  config.target_name = target;
  config.blocks = lun.size / config.block_size;
  config.reservations_always_persist = true;
  if (lun.reservations.empty()) return scsi::LogicalUnit(config, {});
  auto reservations = scsi::Reservations::parse(lun.reservations);
  if (!reservations) return std::unexpected(reservations.error());
  return scsi::LogicalUnit(config, std::move(*reservations));
}

}  // namespace

LunTarget::LunTarget(ports::Scheduler& scheduler, ports::Network& network,
                     const ServiceConfig& service, bool foreign, LoggedStorage& storage,
                     std::function<bool()> may_answer)
    : service_(service),
      foreign_(foreign),
      storage_(storage),
      server_(scheduler, network),
      target_(server_, *this) {
  server_.set_gate(std::move(may_answer));
}

LunTarget::~LunTarget() {
  *alive_ = false;
}

Status LunTarget::start() {
  if (auto added = server_.add_target({service_.iqn, "Duet", &target_}); !added) return added;
  server_.set_ready(service_.iqn, true);
  return listen();  // last: who connects finds everything in place
}

Status LunTarget::listen() {
  services::PortalConfig portal;
  portal.address = service_.address;
  portal.port = service_.port;
  portal.foreign = foreign_;
  auto added = server_.add_portal(service_.iqn, portal);
  if (!added) return std::unexpected(added.error());
  portal_ = *added;
  return {};
}

Status LunTarget::add(const filesystem::LunInfo& lun) {
  if (!lun.offline.empty()) return fail(ErrorCode::invalid, lun.offline);
  auto unit = make_unit(lun, service_.iqn);
  if (!unit) return std::unexpected(unit.error());
  target_.add_unit(lun.number, std::move(*unit));
  return {};
}

// ---- planned end ----

void LunTarget::drain(ports::Task drained) {
  server_.remove_portal(portal_);
  server_.hold(service_.iqn, [this, drained = std::move(drained)]() mutable {
    // Not before: an initiator that logs out gives up what it has under way.
    server_.request_logout(service_.iqn);
    drained();
  });
}

void LunTarget::resume() {
  server_.resume(service_.iqn);
  // The address was ours a moment ago; should it be gone, the sessions that live go on without it.
  if (auto listening = listen(); !listening) portal_ = {};
}

// ---- store ----

ports::Done<void> LunTarget::finish(LunNumber lun, scsi::StoreTag tag, Outcome failure) {
  return [this, alive = alive_, lun, tag, failure](Result<void> r) {
    if (!*alive) return;
    target_.store_done(lun, {tag, r ? Outcome::ok : outcome_of(r.error().code, failure), {}});
  };
}

void LunTarget::read(LunNumber lun, const scsi::StoreRead& order) {
  storage_.read(lun, order.offset, order.length,
                [this, alive = alive_, lun, tag = order.tag](Result<std::vector<Slice>> r) {
                  if (!*alive) return;
                  if (r) return target_.store_done(lun, {tag, Outcome::ok, std::move(*r)});
                  target_.store_done(lun,
                                     {tag, outcome_of(r.error().code, Outcome::read_failed), {}});
                });
}

void LunTarget::write(LunNumber lun, scsi::StoreWrite&& order) {
  storage_.submit(filesystem::WriteRecord{lun, order.offset, std::move(order.data)},
                  finish(lun, order.tag, Outcome::write_failed));
}

void LunTarget::zero(LunNumber lun, const scsi::StoreZero& order) {
  zero_from(lun, order.tag, order.offset, order.length);
}

// In pieces that fit a log record; the last one answers.
void LunTarget::zero_from(LunNumber lun, scsi::StoreTag tag, std::uint64_t offset,
                          std::uint64_t length) {
  auto piece = std::min(length, filesystem::max_zero_length);
  auto answer = finish(lun, tag, Outcome::write_failed);
  if (piece == length) {
    storage_.submit(filesystem::ZeroRecord{lun, offset, piece}, std::move(answer));
    return;
  }
  storage_.submit(filesystem::ZeroRecord{lun, offset, piece},
                  [this, alive = alive_, lun, tag, offset, length, piece,
                   answer = std::move(answer)](Result<void> r) mutable {
                    if (!*alive) return;
                    if (!r) return answer(std::move(r));
                    zero_from(lun, tag, offset + piece, length - piece);
                  });
}

void LunTarget::flush(LunNumber lun, const scsi::StoreFlush& order) {
  storage_.flush(finish(lun, order.tag, Outcome::write_failed));
}

void LunTarget::save_reservations(LunNumber lun, scsi::StoreReservations&& order) {
  storage_.submit(filesystem::ReservationsRecord{lun, std::move(order.state)},
                  finish(lun, order.tag, Outcome::write_failed));
}

}  // namespace duet::node
