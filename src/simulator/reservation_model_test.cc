#include "simulator/reservation_model.h"

#include <gtest/gtest.h>

#include "scsi/reservation_parameters.h"

namespace duet::simulator {
namespace {

using Outcome = ReservationModel::Outcome;
using Action = scsi::PersistentReserveOut::ServiceAction;
using Report = scsi::PersistentReserveIn::ServiceAction;
using scsi::AccessClass;

struct ReservationModelTest : testing::Test {
  std::vector<std::string> invariants;
  ReservationModel model{"LUN 0", [this](const std::string& invariant, std::string) {
                           invariants.push_back(invariant);
                         }};
  scsi::Nexus ann{"ann", {1}, 1}, bob{"bob", {2}, 1};
  scsi::Reservations truth;

  static scsi::ReservationRequest request(Action action, std::uint64_t key, std::uint64_t other,
                                          std::uint8_t type = 0) {
    scsi::ReservationRequest r;
    r.action = action;
    r.key = ReservationKey(key);
    r.service_action_key = ReservationKey(other);
    r.type = type;
    return r;
  }
  // Asked for, and executed.
  void change(const scsi::Nexus& nexus, const scsi::ReservationRequest& r) {
    model.begin(nexus, r);
    model.attempt();
    model.end(truth.apply(r, nexus, 1) ? Outcome::good : Outcome::conflict);
  }
  void report(const scsi::Reservations& state) {
    const auto since = model.version();
    for (Report what : {Report::read_keys, Report::read_reservation, Report::read_full_status}) {
      model.check_report(since, what, scsi::encode_reservation_report(what, state));
    }
  }
  void reserve() {
    change(ann, request(Action::register_key, 0, 7));
    change(ann, request(Action::reserve, 7, 0, 5));
  }
};

TEST_F(ReservationModelTest, WhatWasAskedForIsWhatIsThere) {
  reserve();
  report(truth);
  EXPECT_FALSE(model.may_pass(model.version(), bob, AccessClass::writes));
  EXPECT_TRUE(model.may_pass(model.version(), ann, AccessClass::writes));
  EXPECT_FALSE(model.may_conflict(model.version(), ann, AccessClass::writes));
  EXPECT_TRUE(invariants.empty());
}

TEST_F(ReservationModelTest, ReservationsThatWereLost) {
  reserve();
  model.check_report(model.version(), Report::read_keys,
                     scsi::encode_reservation_report(Report::read_keys, {}));
  EXPECT_EQ((std::vector<std::string>{"I15"}), invariants);
}

TEST_F(ReservationModelTest, AGenerationThatWentBack) {
  reserve();
  const auto before = truth;
  change(bob, request(Action::register_key, 0, 9));
  change(bob, request(Action::register_key, 9, 0));
  report(before);  // the same keys, the same reservation, an older generation
  EXPECT_FALSE(invariants.empty());
}

TEST_F(ReservationModelTest, WithoutAnswerEitherIsPossible) {
  reserve();
  const auto release = request(Action::release, 7, 0, 5);
  model.begin(ann, release);
  const auto since = model.version();
  model.attempt();
  EXPECT_TRUE(model.may_pass(since, bob, AccessClass::writes));
  EXPECT_TRUE(model.may_conflict(since, bob, AccessClass::writes));
  report(truth);
  ASSERT_TRUE(truth.apply(release, ann, 1));
  report(truth);
  model.attempt();  // again
  model.end(Outcome::good);
  report(truth);
  EXPECT_FALSE(model.may_conflict(model.version(), bob, AccessClass::writes));
  EXPECT_TRUE(invariants.empty());
}

TEST_F(ReservationModelTest, WhatWasRefusedHasNoEffect) {
  reserve();
  model.begin(ann, request(Action::release, 7, 0, 5));
  model.attempt();
  model.end(Outcome::none);
  EXPECT_TRUE(model.busy());
  EXPECT_FALSE(model.may_pass(model.version(), bob, AccessClass::writes));
}

TEST_F(ReservationModelTest, AnAnswerThatCannotBe) {
  reserve();
  model.begin(bob, request(Action::reserve, 9, 0, 5));  // not registered
  model.attempt();
  model.end(Outcome::good);
  EXPECT_EQ((std::vector<std::string>{"I15"}), invariants);
}

TEST_F(ReservationModelTest, ARetriedRegistrationConflictsLegally) {
  change(ann, request(Action::register_key, 0, 7));
  const auto again = request(Action::register_key, 7, 8);
  model.begin(ann, again);
  model.attempt();  // executed, the answer was lost
  ASSERT_TRUE(truth.apply(again, ann, 1));
  model.attempt();
  model.end(Outcome::conflict);
  report(truth);
  EXPECT_TRUE(invariants.empty());
}

}  // namespace
}  // namespace duet::simulator
