#include "ha/reason.h"

namespace duet::ha {

std::string_view name(Reason reason) {
  switch (reason) {
    case Reason::none:
      return "none";
    case Reason::partner_panicked:
      return "partner_panicked";
    case Reason::partner_silent:
      return "partner_silent";
    case Reason::partner_rebooted:
      return "partner_rebooted";
    case Reason::partner_shut_down:
      return "partner_shut_down";
    case Reason::operator_order:
      return "operator_order";
    case Reason::cold_start:
      return "cold_start";
    case Reason::resumed:
      return "resumed";
    case Reason::giveback_failed:
      return "giveback_failed";
    case Reason::taken_over:
      return "taken_over";
    case Reason::disks_missing:
      return "disks_missing";
    case Reason::mailbox_unknown:
      return "mailbox_unknown";
    case Reason::nvram_lost:
      return "nvram_lost";
    case Reason::awaiting_partner:
      return "awaiting_partner";
    case Reason::awaiting_engine:
      return "awaiting_engine";
    case Reason::lost_arbitration:
      return "lost_arbitration";
    case Reason::engine_failed:
      return "engine_failed";
    case Reason::fenced:
      return "fenced";
    case Reason::awaiting_giveback:
      return "awaiting_giveback";
    case Reason::partner_absent_taken_over:
      return "partner_absent_taken_over";
    case Reason::claiming:
      return "claiming";
    case Reason::not_up:
      return "not_up";
    case Reason::already_taken_over:
      return "already_taken_over";
    case Reason::not_taken_over:
      return "not_taken_over";
    case Reason::partner_not_waiting:
      return "partner_not_waiting";
    case Reason::partner_makes_no_progress:
      return "partner_makes_no_progress";
    case Reason::ask_the_partner:
      return "ask_the_partner";
    case Reason::ask_the_node:
      return "ask_the_node";
    case Reason::busy:
      return "busy";
    case Reason::partner_disks_unreachable:
      return "partner_disks_unreachable";
    case Reason::log_not_here:
      return "log_not_here";
    case Reason::halt_without_takeover:
      return "halt_without_takeover";
    case Reason::no_lease:
      return "no_lease";
    case Reason::engine_stuck:
      return "engine_stuck";
    case Reason::serves_partner:
      return "serves_partner";
    case Reason::no_such_node:
      return "no_such_node";
    case Reason::fencing_failed:
      return "fencing_failed";
    case Reason::vetoed:
      return "vetoed";
    case Reason::ended:
      return "ended";
    case Reason::giveback_timed_out:
      return "giveback_timed_out";
    case Reason::no_takeover_under_way:
      return "no_takeover_under_way";
    case Reason::handed_over:
      return "handed_over";
    case Reason::takeover_forced:
      return "takeover_forced";
    case Reason::cancelled:
      return "cancelled";
    case Reason::hand_over_failed:
      return "hand_over_failed";
    case Reason::not_prepared:
      return "not_prepared";
    case Reason::departing:
      return "departing";
    case Reason::partner_takes_over:
      return "partner_takes_over";
    case Reason::too_late:
      return "too_late";
    case Reason::no_answer:
      return "no_answer";
    case Reason::partner_silent_to_us:
      return "partner_silent_to_us";
    case Reason::mailbox_unwritable:
      return "mailbox_unwritable";
    case Reason::log_damaged:
      return "log_damaged";
    case Reason::inventory_mismatch:
      return "inventory_mismatch";
    case Reason::version_mismatch:
      return "version_mismatch";
    case Reason::survivor_unwell:
      return "survivor_unwell";
    case Reason::partner_unwell:
      return "partner_unwell";
    case Reason::health_unknown:
      return "health_unknown";
    case Reason::label_unfit:
      return "label_unfit";
    case Reason::foreign_reservation:
      return "foreign_reservation";
    case Reason::disk_done_without:
      return "disk_done_without";
    case Reason::coredump_in_progress:
      return "coredump_in_progress";
    case Reason::engine_panicked:
      return "engine_panicked";
  }
  return "unknown";
}

std::string_view sentence(Reason reason) {
  switch (reason) {
    case Reason::none:
      return "";
    case Reason::partner_panicked:
      return "the partner's storage system panicked";
    case Reason::partner_silent:
      return "the partner is silent on the interconnect and on its disks";
    case Reason::partner_rebooted:
      return "the partner has rebooted";
    case Reason::partner_shut_down:
      return "the partner has shut down";
    case Reason::operator_order:
      return "the operator ordered it";
    case Reason::cold_start:
      return "the partner has not appeared since this node booted";
    case Reason::resumed:
      return "this node served the partner's identity before it rebooted";
    case Reason::giveback_failed:
      return "the partner did not serve after the giveback";
    case Reason::taken_over:
      return "the partner serves this node's identity and holds its disks";
    case Reason::disks_missing:
      return "not every disk of this node's shelf can be reached: check its paths";
    case Reason::mailbox_unknown:
      return "the mailbox cannot be read on enough disks: this node does not serve";
    case Reason::nvram_lost:
      return "acknowledged writes are in an NVRAM region that is not this node's: bring it back, "
             "let the partner "
             "take over, or accept the loss with 'giveback --force' at this node";
    case Reason::awaiting_partner:
      return "the partner may be about to take over";
    case Reason::awaiting_engine:
      return "the engine is starting";
    case Reason::lost_arbitration:
      return "the partner took the disks first";
    case Reason::engine_failed:
      return "the engine could not take on the identity";
    case Reason::fenced:
      return "the partner has fenced this node";
    case Reason::awaiting_giveback:
      return "the disks are readable; the partner still serves this node's identity";
    case Reason::partner_absent_taken_over:
      return "the mailbox says taken over, but the partner holds no disk: waiting for the partner "
             "('giveback "
             "--force' at this node if it is gone for good; what only the partner had is lost)";
    case Reason::claiming:
      return "taking the disks of this node's identity";
    case Reason::not_up:
      return "this node does not serve its own identity";
    case Reason::already_taken_over:
      return "this node serves the partner's identity already";
    case Reason::not_taken_over:
      return "this node does not serve the partner's identity";
    case Reason::partner_not_waiting:
      return "the partner is not waiting for a giveback";
    case Reason::partner_makes_no_progress:
      return "the partner makes no progress";
    case Reason::ask_the_partner:
      return "this is for the partner to do: give the command there";
    case Reason::ask_the_node:
      return "give the command at the node itself";
    case Reason::busy:
      return "another move is under way";
    case Reason::partner_disks_unreachable:
      return "not every disk of the partner's shelf can be reached from here";
    case Reason::log_not_here:
      return "acknowledged writes of the partner are in an NVRAM that this node does not have "
             "('--force' loses them)";
    case Reason::halt_without_takeover:
      return "the partner was halted for maintenance, without takeover";
    case Reason::no_lease:
      return "this node's own disks do not answer its heartbeats";
    case Reason::engine_stuck:
      return "this node's engine does not answer";
    case Reason::serves_partner:
      return "this node serves the partner's identity too ('--force' ends both)";
    case Reason::no_such_node:
      return "there is no such node in this cluster";
    case Reason::fencing_failed:
      return "not every disk of the partner could be fenced";
    case Reason::vetoed:
      return "the engine could not release the identity";
    case Reason::ended:
      return "this boot of the node is ending";
    case Reason::giveback_timed_out:
      return "the partner did not come up in time; the identity was taken back";
    case Reason::no_takeover_under_way:
      return "no takeover is under way that could be cancelled";
    case Reason::handed_over:
      return "this node has handed its identity over to the partner";
    case Reason::takeover_forced:
      return "the countdown ended: the partner takes over by force";
    case Reason::cancelled:
      return "the operator cancelled it";
    case Reason::hand_over_failed:
      return "the node that shall go could not hand its identity over and serves on "
             "('--force' takes over all the same)";
    case Reason::not_prepared:
      return "the engine could not prepare for the partner's identity: the takeover would "
             "take longer than planned";
    case Reason::departing:
      return "this node is shutting down for a takeover";
    case Reason::partner_takes_over:
      return "the partner has begun to take over this node";
    case Reason::too_late:
      return "too late: the node that shall go has stopped, and the takeover goes on";
    case Reason::no_answer:
      return "the partner did not answer";
    case Reason::partner_silent_to_us:
      return "the partner counts down no more, or is not heard";
    case Reason::mailbox_unwritable:
      return "the mailbox cannot be written on enough disks";
    case Reason::log_damaged:
      return "the mirror of the partner's log in this node's NVRAM is damaged: acknowledged writes "
             "would be lost";
    case Reason::inventory_mismatch:
      return "the two nodes do not see the same disks";
    case Reason::version_mismatch:
      return "the partner, or what it wrote, is of a version that this node does not speak";
    case Reason::survivor_unwell:
      return "this node itself is not fit to serve clients";
    case Reason::partner_unwell:
      return "the partner is not fit to serve clients";
    case Reason::health_unknown:
      return "the partner has not reported its health";
    case Reason::label_unfit:
      return "a disk of the partner does not bear the label that it should";
    case Reason::foreign_reservation:
      return "somebody who is no node of this pair holds a disk of the partner";
    case Reason::coredump_in_progress:
      return "the node's memory is being dumped, or its dump collected: giving back now leaves the "
             "rest to it";
    case Reason::disk_done_without:
      return "a disk does not answer; its RAID group can do without it";
    case Reason::engine_panicked:
      return "this node's storage system panicked; the node boots again";
  }
  return "unknown reason";
}

}  // namespace duet::ha
