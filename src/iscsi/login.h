// The login phase of a connection (RFC 7143 section 6.3, 11.12, 11.13), sans-I/O.
//
//   start ─► security ─► operational ─► admission ─► (full feature phase: Connection)
//     └─────────────────────^  (an initiator may begin with either stage, and skip the second)
// Any violation: failed, with the status for the initiator.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "iscsi/negotiation.h"
#include "iscsi/pdu.h"
#include "iscsi/target_directory.h"

namespace duet::iscsi {

class Login {
 public:
  enum class State : std::uint8_t { start, security, operational, admission, failed };

  // The answer to a request: a response without numbers, its text, and what comes next.
  struct Step {
    LoginResponse response;
    std::string text;
    // In state admission the response is to be sent once the session is admitted; with its TSIH.
    State state = State::failed;
  };

  // What the initiator said of itself.
  struct Session {
    std::string initiator_name;
    std::string target_name;  // empty for discovery
    bool discovery = false;
    Isid isid{};
    std::uint16_t connection_id = 0;
    Parameters parameters;
  };

  Login(const TargetDirectory& directory, std::uint16_t portal_group_tag)
      : directory_(&directory), portal_group_tag_(portal_group_tag) {}

  // Requires: state() is none of admission and failed.
  Step on_request(const LoginRequest& request, Bytes text);
  State state() const { return state_; }
  const Session& session() const { return session_; }

  // The response that ends a login with an error.
  static LoginResponse failure(const LoginRequest& request, LoginStatus status);

 private:
  LoginStatus check_header(const LoginRequest& request);
  LoginStatus take_pairs(const std::vector<KeyValue>& pairs, std::vector<KeyValue>& answers);
  LoginStatus take_identity(const std::vector<KeyValue>& pairs);
  LoginStatus authenticate(const std::string& methods, std::vector<KeyValue>& answers);
  void introduce(std::vector<KeyValue>& answers);

  const TargetDirectory* directory_;
  std::uint16_t portal_group_tag_;
  State state_ = State::start;
  LoginRequest first_;
  std::vector<std::byte> text_;  // of requests with the C bit
  bool identified_ = false;
  bool authenticated_ = false;
  Negotiation negotiation_;
  Session session_;
};

}  // namespace duet::iscsi
