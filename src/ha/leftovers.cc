#include "ha/leftovers.h"

#include "base/coverage.h"

namespace duet::ha {

using Kind = MailboxKeeper::Outcome::Kind;

void Leftovers::start(Output& out) {
  state_ = Waiting{out.now()};
}

//  Idle -> Waiting -> Surveying --nothing fenced by us-------+
//             ^          | Exclusive, held by a key of our node
//             |          v                                  |
//             +------ Reading --taken over by us--> Done (the takeover is resumed)
//             | unknown  | not by us                        |
//             |          v                                  |
//             +---- HandingBack <---------------------------+
//           failed       | -> Done
bool Leftovers::advance(World& world, Output& out) {
  return std::visit(
      Overloaded{
          [](Idle&) { return false; },
          [&](Waiting& s) {
            if (s.until > out.now() || !world.enough_connected(world.partner())) return false;
            Surveying surveying{
                Survey(world.config, world.partner(), world.missing(world.partner()))};
            surveying.survey.start(out);
            state_ = std::move(surveying);
            return true;
          },
          [&](Surveying& s) {
            if (!s.survey.done()) return false;
            if (s.survey.exclusive_by_us()) {
              state_ = Reading{};
              world.keeper(world.partner()).read(MailboxKeeper::Purpose::leftovers, out);
            } else if (s.survey.holding() == Holding::unreadable &&
                       !world.bears(world.partner(), s.survey.unreadable())) {
              state_ = Waiting{out.now() + unknown_retry};
            } else {
              hand_back(false, world, out);
            }
            return true;
          },
          [](Reading&) { return false; },
          [&](HandingBack& s) {
            s.fences.on_time(out);
            if (s.fences.outcome() == FenceSet::Outcome::running) return false;
            if (s.fences.outcome() == FenceSet::Outcome::failed) {
              state_ = Waiting{out.now() + unknown_retry};
              return true;
            }
            if (s.fenced) {
              MARK(leftovers_handed_back);
              out.log(Severity::notice, "boot.handed_back",
                      "the partner's disks, fenced by an earlier boot of this node, are readable "
                      "again");
            }
            state_ = Done{};
            return true;
          },
          [](Done&) { return false; },
      },
      state_);
}

bool Leftovers::on_completed(const DiskCompleted& event, Output& out) {
  if (auto* s = std::get_if<Surveying>(&state_)) return s->survey.on_completed(event);
  if (auto* s = std::get_if<HandingBack>(&state_)) return s->fences.on_completed(event, out);
  return false;
}

void Leftovers::on_mailbox(const MailboxKeeper::Outcome& outcome, World& world, Output& out) {
  if (!std::holds_alternative<Reading>(state_)) return;
  if (outcome.kind != Kind::known) {
    MARK(leftovers_mailbox_unknown);
    state_ = Waiting{out.now() + unknown_retry};
    return;
  }
  world.mailbox(world.partner()) = outcome.mailbox;
  if (outcome.mailbox.taken_over_by == world.self()) {
    MARK(leftovers_takeover_resumed);
    state_ = Done{};
    return;
  }
  hand_back(true, world, out);
}

void Leftovers::hand_back(bool fenced, World& world, Output& out) {
  HandingBack back{fenced,
                   FenceSet(world.rules(FenceMode::release,
                                        ports::ReservationType::write_exclusive_registrants_only),
                            world.partner(), world.config.disks(world.partner()),
                            world.missing(world.partner()), world.tolerance(world.partner()))};
  back.fences.start(out);
  state_ = std::move(back);
}

Instant Leftovers::next_time() const {
  if (auto* s = std::get_if<Waiting>(&state_)) return s->until;
  if (auto* s = std::get_if<HandingBack>(&state_)) return s->fences.next_time();
  return never;
}

}  // namespace duet::ha
