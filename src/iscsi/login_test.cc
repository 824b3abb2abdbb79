#include "iscsi/login.h"

#include <gtest/gtest.h>

#include "iscsi/test_initiator.h"

namespace duet::iscsi {
namespace {

using testing::OneTarget;
using testing::text;
using State = Login::State;

std::string identity() {
  return text({"InitiatorName=iqn.2026-11.com.example:host", "TargetName=iqn.2026-11.org.duet:red",
               "SessionType=Normal"});
}

LoginRequest request(Stage current, std::optional<Stage> next = {}) {
  LoginRequest r{.numbers = {.immediate = true, .initiator_task_tag = 7},
                 .transit = next.has_value(),
                 .current_stage = current,
                 .isid = {0x80, 1, 2, 3, 4, 5},
                 .connection_id = 1};
  if (next) r.next_stage = *next;
  return r;
}

struct Fixture {
  OneTarget directory;
  Login login{directory, 3};
  Login::Step on(const LoginRequest& r, std::string_view keys = "") {
    return login.on_request(r, std::as_bytes(std::span(keys)));
  }
  // Brings a login into a state.
  void reach(State state) {
    if (state == State::start) return;
    on(request(Stage::security), identity() + text({"AuthMethod=None"}));
    if (state == State::operational) on(request(Stage::security, Stage::operational));
    ASSERT(login.state() == state);
  }
};

// Every state that takes requests, with every kind of request.
TEST(Login, TableOfStatesAndRequests) {
  enum class Kind {
    security,
    security_to_operational,
    security_to_full,
    operational,
    operational_to_full,
    other_isid,
    other_tsih,
    other_tag,
    other_connection,
    new_version,
    more_text,
    garbage,
    auth_chap_only,
    identity_again,
    unknown_key,
  };
  struct Row {
    State state;
    Kind kind;
    State next;
    LoginStatus status = LoginStatus::success;
  };
  using enum LoginStatus;
  const Row rows[] = {
      {State::start, Kind::security, State::security},
      {State::start, Kind::security_to_operational, State::operational},
      {State::start, Kind::security_to_full, State::admission},
      {State::start, Kind::operational, State::operational},
      {State::start, Kind::operational_to_full, State::admission},
      {State::start, Kind::other_isid, State::security},
      {State::start, Kind::other_tsih, State::failed, session_does_not_exist},
      {State::start, Kind::other_tag, State::security},
      {State::start, Kind::other_connection, State::security},
      {State::start, Kind::new_version, State::failed, unsupported_version},
      {State::start, Kind::more_text, State::security},
      {State::start, Kind::garbage, State::failed, initiator_error},
      {State::start, Kind::auth_chap_only, State::failed, authentication_failed},
      {State::start, Kind::identity_again, State::failed, initiator_error},
      {State::start, Kind::unknown_key, State::security},

      {State::security, Kind::security, State::security},
      {State::security, Kind::security_to_operational, State::operational},
      {State::security, Kind::security_to_full, State::admission},
      {State::security, Kind::operational, State::failed, invalid_during_login},
      {State::security, Kind::operational_to_full, State::failed, invalid_during_login},
      {State::security, Kind::other_isid, State::failed, invalid_during_login},
      {State::security, Kind::other_tsih, State::failed, invalid_during_login},
      {State::security, Kind::other_tag, State::failed, invalid_during_login},
      {State::security, Kind::other_connection, State::failed, invalid_during_login},
      {State::security, Kind::new_version, State::failed, unsupported_version},
      {State::security, Kind::more_text, State::security},
      {State::security, Kind::garbage, State::failed, initiator_error},
      {State::security, Kind::auth_chap_only, State::failed, initiator_error},  // said twice
      {State::security, Kind::identity_again, State::failed, initiator_error},
      {State::security, Kind::unknown_key, State::security},

      {State::operational, Kind::security, State::failed, invalid_during_login},
      {State::operational, Kind::security_to_operational, State::failed, invalid_during_login},
      {State::operational, Kind::security_to_full, State::failed, invalid_during_login},
      {State::operational, Kind::operational, State::operational},
      {State::operational, Kind::operational_to_full, State::admission},
      {State::operational, Kind::other_isid, State::failed, invalid_during_login},
      {State::operational, Kind::other_tsih, State::failed, invalid_during_login},
      {State::operational, Kind::other_tag, State::failed, invalid_during_login},
      {State::operational, Kind::other_connection, State::failed, invalid_during_login},
      {State::operational, Kind::new_version, State::failed, unsupported_version},
      {State::operational, Kind::more_text, State::operational},
      {State::operational, Kind::garbage, State::failed, initiator_error},
      {State::operational, Kind::auth_chap_only, State::failed, initiator_error},
      {State::operational, Kind::identity_again, State::failed, initiator_error},
      {State::operational, Kind::unknown_key, State::operational},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(::testing::Message() << "state " << static_cast<int>(row.state) << " kind "
                                      << static_cast<int>(row.kind));
    Fixture f;
    f.reach(row.state);
    Stage stage = row.state == State::operational ? Stage::operational : Stage::security;
    LoginRequest r = request(stage);
    std::string keys = row.state == State::start ? identity() : "";
    switch (row.kind) {
      case Kind::security:
        r = request(Stage::security);
        break;
      case Kind::security_to_operational:
        r = request(Stage::security, Stage::operational);
        break;
      case Kind::security_to_full:
        r = request(Stage::security, Stage::full_feature);
        break;
      case Kind::operational:
        r = request(Stage::operational);
        break;
      case Kind::operational_to_full:
        r = request(Stage::operational, Stage::full_feature);
        break;
      case Kind::other_isid:
        r.isid[5] = 9;
        break;
      case Kind::other_tsih:
        r.tsih = 1;
        break;
      case Kind::other_tag:
        r.numbers.initiator_task_tag = 8;
        break;
      case Kind::other_connection:
        r.connection_id = 2;
        break;
      case Kind::new_version:
        r.version_min = 1;
        break;
      case Kind::more_text:
        r.more = true;
        break;
      case Kind::garbage:
        keys = "garbage";
        break;
      case Kind::auth_chap_only:
        keys += text({"AuthMethod=CHAP"});
        break;
      case Kind::identity_again:
        keys += text({"InitiatorName=iqn.2026-11.com.example:other"});
        break;
      case Kind::unknown_key:
        keys += text({"X-key=1"});
        break;
    }
    auto step = f.on(r, keys);
    EXPECT_EQ(f.login.state(), row.next);
    EXPECT_EQ(step.state, row.next);
    EXPECT_EQ(step.response.status, row.status);
    if (row.kind == Kind::unknown_key) {
      EXPECT_NE(step.text.find("X-key=NotUnderstood"), std::string::npos);
    }
    if (row.kind == Kind::more_text) {
      EXPECT_EQ(step.text, "");
    }
  }
}

TEST(Login, FirstRequestDecidesAboutTheTarget) {
  struct Row {
    std::string keys;
    LoginStatus status;
  };
  const std::string who = "InitiatorName=iqn.2026-11.com.example:host";
  const Row rows[] = {
      {text({"TargetName=iqn.2026-11.org.duet:red"}), LoginStatus::missing_parameter},
      {text({who}), LoginStatus::missing_parameter},
      {text({who, "TargetName=iqn.2026-11.org.duet:green"}), LoginStatus::target_not_found},
      {text({who, "SessionType=Strange", "TargetName=x"}), LoginStatus::session_type_not_supported},
      {text({"InitiatorName=me", "SessionType=Discovery"}), LoginStatus::initiator_error},
      {text({who, who, "SessionType=Discovery"}), LoginStatus::initiator_error},
      {text({who, "SessionType=Discovery"}), LoginStatus::success},
      {text({who, "TargetName=iqn.2026-11.org.duet:red"}), LoginStatus::success},
  };
  for (const auto& row : rows) {
    Fixture f;
    EXPECT_EQ(f.on(request(Stage::operational), row.keys).response.status, row.status) << row.keys;
  }
}

// A node that takes over is not ready for a while: initiators must come back, not give up.
TEST(Login, ATargetThatIsNotReadySaysServiceUnavailable) {
  Fixture f;
  f.directory.ready = false;
  auto step = f.on(request(Stage::security, Stage::operational), identity());
  EXPECT_EQ(step.response.status, LoginStatus::service_unavailable);
  EXPECT_FALSE(step.response.transit);
}

TEST(Login, AnswersAndResult) {
  Fixture f;
  auto step = f.on(request(Stage::security, Stage::operational),
                   identity() + text({"AuthMethod=CHAP,None"}));
  EXPECT_EQ(step.text, text({"TargetPortalGroupTag=3", "TargetAlias=red", "AuthMethod=None"}));
  EXPECT_TRUE(step.response.transit);
  EXPECT_EQ(step.response.next_stage, Stage::operational);
  step = f.on(request(Stage::operational, Stage::full_feature),
              text({"HeaderDigest=CRC32C", "MaxRecvDataSegmentLength=4096"}));
  EXPECT_EQ(step.text, text({"HeaderDigest=CRC32C", "MaxRecvDataSegmentLength=262144"}));
  EXPECT_EQ(step.state, State::admission);
  const auto& session = f.login.session();
  EXPECT_EQ(session.initiator_name, testing::initiator_name);
  EXPECT_EQ(session.target_name, testing::target_name);
  EXPECT_TRUE(session.parameters.header_digest);
  EXPECT_EQ(session.parameters.initiator_max_receive, 4096u);
}

TEST(Login, TakesTextOverSeveralRequestsUpToABound) {
  Fixture f;
  auto r = request(Stage::operational);
  r.more = true;
  std::string keys = identity();
  f.on(r, keys.substr(0, 20));
  EXPECT_EQ(f.login.state(), State::operational);
  auto step = f.on(request(Stage::operational, Stage::full_feature), keys.substr(20));
  EXPECT_EQ(step.state, State::admission);

  Fixture g;
  std::string block(max_text_size, 'a');
  EXPECT_EQ(g.on(r, block).response.status, LoginStatus::success);
  EXPECT_EQ(g.on(r, "a").response.status, LoginStatus::initiator_error);
}

}  // namespace
}  // namespace duet::iscsi
