// What the persistent reservations of a LUN may be, by what its clients asked for and were told
// (invariants I5, I15): the states that are possible, step by step. Changes come one at a time,
// whichever client makes them; one without answer may have happened or not.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "scsi/cdb.h"
#include "scsi/reservations.h"

namespace duet::simulator {

class ReservationModel {
 public:
  using Violate = std::function<void(const std::string& invariant, std::string what)>;
  // `name`: of the LUN, for people.
  ReservationModel(std::string name, Violate violate)
      : name_(std::move(name)), violate_(std::move(violate)) {}

  // ---- PERSISTENT RESERVE OUT ----
  bool busy() const { return change_.has_value(); }
  void begin(const scsi::Nexus& nexus, const scsi::ReservationRequest& request);
  void attempt();  // it is on its way, perhaps again
  // Its outcome; `none`: it was certainly not executed, and will be tried again.
  enum class Outcome : std::uint8_t { good, conflict, check_condition, none };
  void end(Outcome outcome);

  // ---- what other commands were told ----
  // Counts the changes: what was sent at a version may have met any state from then on.
  using Version = std::size_t;
  Version version() const { return states_.size() - 1; }
  bool may_pass(Version since, const scsi::Nexus& nexus, scsi::AccessClass access) const;
  bool may_conflict(Version since, const scsi::Nexus& nexus, scsi::AccessClass access) const;
  // `data`: answer to PERSISTENT RESERVE IN sent at `since`.
  void check_report(Version since, scsi::PersistentReserveIn::ServiceAction action, Bytes data);

  // One of the possible ones, for choosing what to ask next.
  const scsi::Reservations& any_state() const { return states_.back().front(); }

 private:
  using States = std::vector<scsi::Reservations>;
  struct Change {
    scsi::Nexus nexus;
    scsi::ReservationRequest request;
    States before;  // the last attempt
  };
  static void add(States& states, const scsi::Reservations& state);
  std::string describe() const;

  std::string name_;
  Violate violate_;
  std::vector<States> states_ = {{scsi::Reservations{}}};  // by version; none is empty
  std::optional<Change> change_;
};

}  // namespace duet::simulator
