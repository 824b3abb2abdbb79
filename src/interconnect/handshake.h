// Proves to both ends of a new connection that the other one knows the cluster secret, before any
// memory is opened to it. Sans-I/O; chart and invariants: docs/protocols/interconnect.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "interconnect/messages.h"

namespace duet::interconnect {

// Shared by both nodes of a cluster.
using ClusterSecret = std::vector<std::byte>;
inline constexpr std::size_t min_secret_size = 32;
inline constexpr std::size_t max_secret_size = 4096;

// What one side says of itself.
struct Self {
  ClusterId cluster;
  NodeId node;
  BootNonce nonce;
  Purpose purpose = Purpose::control;
  VersionRange versions;
  std::string software;
  ClusterSecret secret;  // at least min_secret_size
};

// HMAC-SHA256 over a label for the side, both hellos and, for the acceptor, its verdict and grants.
Proof dialer_proof(const ClusterSecret& secret, Bytes hello, Bytes answer);
Proof acceptor_proof(const ClusterSecret& secret, Bytes hello, Bytes answer,
                     const Welcome& welcome);

// Of the side that connected.
class DialerHandshake {
 public:
  // `challenge`: fresh random bytes. Requires: a secret of at least min_secret_size.
  DialerHandshake(Self self, Challenge challenge);

  std::vector<std::byte> hello() const { return hello_; }

  struct Step {
    enum class Outcome : std::uint8_t { going_on, admitted, refused };
    Outcome outcome = Outcome::going_on;
    std::vector<std::byte> send;  // if going_on
    // If refused: why. authentication_failed also when the *acceptor's* proof is wrong.
    Verdict verdict = Verdict::admitted;
    std::string why;
  };
  // After anything but going_on the handshake is over, and takes no more frames.
  Step on_frame(Bytes frame);

  // Once admitted.
  const Hello& peer() const { return peer_; }
  const std::array<Grant, 2>& grants() const { return grants_; }
  Session session() const { return session_of(challenge_); }

 private:
  enum class State : std::uint8_t { wants_answer, wants_welcome, over };
  Step refuse(Verdict verdict, std::string why);
  Step on_answer(const Hello& answer, Bytes frame);
  Step on_welcome(const Welcome& welcome);

  Self self_;
  Challenge challenge_;
  std::vector<std::byte> hello_;
  std::vector<std::byte> answer_;
  State state_ = State::wants_answer;
  Hello peer_;
  std::array<Grant, 2> grants_;
};

// Of the side that was connected to.
class AcceptorHandshake {
 public:
  AcceptorHandshake(Self self, Challenge challenge);

  struct Step {
    // refused: send `send` if not empty, then close.
    enum class Outcome : std::uint8_t { going_on, authenticated, refused };
    Outcome outcome = Outcome::going_on;
    std::vector<std::byte> send;
    std::string why;
  };
  Step on_frame(Bytes frame);

  // Once authenticated: register the regions and send the welcome, or refuse with not_now.
  std::vector<std::byte> welcome(const std::array<Grant, 2>& grants) const;
  std::vector<std::byte> not_now() const;

  const Hello& peer() const { return peer_; }
  Session session() const { return session_of(peer_.challenge); }

 private:
  enum class State : std::uint8_t { wants_hello, wants_proof, over };
  Step on_hello(const Hello& hello, Bytes frame);
  Step on_proof(const DialerProof& proof);
  std::vector<std::byte> prove(Welcome welcome) const;

  Self self_;
  Challenge challenge_;
  std::vector<std::byte> hello_;
  std::vector<std::byte> answer_;
  State state_ = State::wants_hello;
  Hello peer_;
};

}  // namespace duet::interconnect
