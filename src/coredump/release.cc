#include "coredump/release.h"

#include <algorithm>

namespace duet::coredump {

std::string_view name(Take take) {
  switch (take) {
    case Take::leave:
      return "leave";
    case Take::needed:
      return "needed";
    case Take::finished:
      return "finished";
    case Take::limit_over:
      return "limit_over";
    case Take::stalled:
      return "stalled";
    case Take::writer_gone:
      return "writer_gone";
    case Take::no_dump:
      return "no_dump";
  }
  return "?";
}

DiskRelease::DiskRelease(DiskId disk, const FailedNode& node, const ReleaseLimits& limits,
                         Instant panicked)
    : disk_(disk), node_(node), limits_(limits), panicked_(panicked) {}

bool DiskRelease::of_this_dump(const Header& h) const {
  return h.cluster == node_.cluster && h.disk == disk_ && h.node == node_.node &&
         h.epoch >= node_.epoch && (!node_.boot_nonce || h.boot_nonce == *node_.boot_nonce);
}

void DiskRelease::on_header(const Result<Header>& header, Instant now) {
  if (!header || !of_this_dump(*header)) {
    seen_.reset();
    return;
  }
  // A look that was overtaken by a newer one says nothing.
  if (seen_ && header->sequence < seen_->sequence) return;
  if (!seen_ || header->sequence > seen_->sequence) changed_ = now;
  seen_ = *header;
  if (seen_->attribute == Attribute::active && !first_active_) first_active_ = now;
}

Decision DiskRelease::may_take(Writer writer, bool redundancy_needs_it, Instant now) const {
  if (redundancy_needs_it) return {Take::needed, {}};
  if (seen_) {
    switch (seen_->attribute) {
      case Attribute::completed:
      case Attribute::aborted:
        return {Take::finished, {}};
      case Attribute::active: {
        Instant limit =
            *first_active_ + std::min<Duration>(limits_.own_limit, Duration(seen_->limit));
        Instant stall = changed_ + limits_.stall_limit;
        if (now >= limit) return {Take::limit_over, {}};
        if (now >= stall) return {Take::stalled, {}};
        if (writer == Writer::gone) return {Take::writer_gone, {}};
        return {Take::leave, std::min(limit, stall)};
      }
      case Attribute::inactive:
        break;
    }
  }
  Instant grace = panicked_ + limits_.mark_grace;
  if (writer != Writer::panicking || now >= grace) return {Take::no_dump, {}};
  return {Take::leave, grace};
}

}  // namespace duet::coredump
