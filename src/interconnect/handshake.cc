#include "interconnect/handshake.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <string_view>
#include <utility>

namespace duet::interconnect {

namespace {

// Different labels for the two sides: a proof can't be sent back to whoever made it.
constexpr std::string_view dialer_label = "duet interconnect 1 dialer";
constexpr std::string_view acceptor_label = "duet interconnect 1 acceptor";

Proof hmac(const ClusterSecret& secret, Bytes text) {
  Proof proof{};
  unsigned size = 0;
  const auto* done = HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
                          reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                          reinterpret_cast<unsigned char*>(proof.data()), &size);
  ASSERT(done != nullptr && size == proof.size());
  return proof;
}

bool equal_in_constant_time(const Proof& a, const Proof& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

ByteWriter transcript(std::string_view label, Bytes hello, Bytes answer) {
  ByteWriter w;
  w.put_string(label);
  w.put(static_cast<std::uint32_t>(hello.size()));
  w.put_bytes(hello);
  w.put(static_cast<std::uint32_t>(answer.size()));
  w.put_bytes(answer);
  return w;
}

Hello hello_of(const Self& self, const Challenge& challenge) {
  ASSERT(self.secret.size() >= min_secret_size);
  Hello h;
  h.versions = self.versions;
  h.node = self.node;
  h.purpose = self.purpose;
  h.cluster = self.cluster;
  h.nonce = self.nonce;
  h.challenge = challenge;
  h.software = self.software.substr(0, max_software_name);
  return h;
}

std::string hex(std::uint64_t v) {
  std::byte bytes[8];
  store_be(bytes, v);
  return to_hex(bytes);
}

// What `self` thinks of a peer by its clear-text hello.
Verdict judge(const Self& self, const Hello& peer) {
  if (!common_version(self.versions, peer.versions)) return Verdict::incompatible_version;
  if (peer.cluster != self.cluster) return Verdict::wrong_cluster;
  if (peer.node == self.node) {
    return peer.nonce == self.nonce ? Verdict::is_self : Verdict::wrong_node;
  }
  if (peer.purpose != self.purpose) return Verdict::not_now;
  return Verdict::admitted;
}

std::string explain(Verdict verdict, const Self& self, const Hello& peer) {
  switch (verdict) {
    case Verdict::admitted:
      return "admitted";
    case Verdict::wrong_cluster:
      return "it belongs to cluster " + hex(peer.cluster.value()) + ", ours is " +
             hex(self.cluster.value());
    case Verdict::is_self:
      return "the address of the partner is our own";
    case Verdict::wrong_node:
      return "it says it is node " + std::to_string(peer.node.value()) + ", and we are node " +
             std::to_string(self.node.value());
    case Verdict::incompatible_version:
      return "it speaks versions " + std::to_string(peer.versions.lowest) + ".." +
             std::to_string(peer.versions.highest) + ", we speak " +
             std::to_string(self.versions.lowest) + ".." + std::to_string(self.versions.highest);
    case Verdict::authentication_failed:
      return "the cluster secrets differ";
    case Verdict::not_now:
      return "nothing is open for us there";
  }
  return "?";
}

}  // namespace

Proof dialer_proof(const ClusterSecret& secret, Bytes hello, Bytes answer) {
  return hmac(secret, transcript(dialer_label, hello, answer).take());
}

Proof acceptor_proof(const ClusterSecret& secret, Bytes hello, Bytes answer,
                     const Welcome& welcome) {
  ByteWriter w = transcript(acceptor_label, hello, answer);
  Welcome without_proof = welcome;
  without_proof.proof = {};
  w.put_bytes(encode(without_proof));
  return hmac(secret, w.take());
}

// ---- dialling side ----
//
//   wants_answer --answer, admitted--> wants_welcome --welcome, proof right--> over (admitted)
//        |                                  |
//        +-- refused, wrong, out of order --+--> over (refused)

DialerHandshake::DialerHandshake(Self self, Challenge challenge)
    : self_(std::move(self)), challenge_(challenge), hello_(encode(hello_of(self_, challenge_))) {}

DialerHandshake::Step DialerHandshake::refuse(Verdict verdict, std::string why) {
  state_ = State::over;
  Step step;
  step.outcome = Step::Outcome::refused;
  step.verdict = verdict;
  step.why = std::move(why);
  return step;
}

DialerHandshake::Step DialerHandshake::on_frame(Bytes bytes) {
  auto frame = decode_frame(bytes);
  if (!frame) return refuse(Verdict::incompatible_version, frame.error().message);
  switch (state_) {
    case State::wants_answer:
      if (const auto* answer = std::get_if<Hello>(&*frame); answer && answer->from_acceptor) {
        return on_answer(*answer, bytes);
      }
      break;
    case State::wants_welcome:
      if (const auto* welcome = std::get_if<Welcome>(&*frame)) return on_welcome(*welcome);
      break;
    case State::over:
      break;
  }
  return refuse(Verdict::incompatible_version, "a frame out of order");
}

DialerHandshake::Step DialerHandshake::on_answer(const Hello& answer, Bytes frame) {
  peer_ = answer;
  Verdict verdict = judge(self_, answer);
  if (verdict == Verdict::admitted) verdict = answer.verdict;
  if (verdict != Verdict::admitted) return refuse(verdict, explain(verdict, self_, answer));
  answer_.assign(frame.begin(), frame.end());
  state_ = State::wants_welcome;
  Step step;
  step.send = encode(DialerProof{dialer_proof(self_.secret, hello_, answer_)});
  return step;
}

DialerHandshake::Step DialerHandshake::on_welcome(const Welcome& welcome) {
  // A refusal of our proof can't carry one: the acceptor says nothing to strangers.
  if (welcome.verdict == Verdict::authentication_failed) {
    return refuse(welcome.verdict, "it refused our proof: the cluster secrets differ");
  }
  if (!equal_in_constant_time(welcome.proof,
                              acceptor_proof(self_.secret, hello_, answer_, welcome))) {
    return refuse(Verdict::authentication_failed, "it does not know the cluster secret");
  }
  if (welcome.verdict != Verdict::admitted) {
    return refuse(welcome.verdict, explain(welcome.verdict, self_, peer_));
  }
  state_ = State::over;
  grants_ = welcome.grants;
  Step step;
  step.outcome = Step::Outcome::admitted;
  return step;
}

// ---- accepting side ----
//
//   wants_hello --hello, admitted--> wants_proof --proof right--> over (authenticated)
//        |                               |
//        +-- other, wrong, out of order -+--> over (refused)

AcceptorHandshake::AcceptorHandshake(Self self, Challenge challenge)
    : self_(std::move(self)), challenge_(challenge) {}

AcceptorHandshake::Step AcceptorHandshake::on_frame(Bytes bytes) {
  Step refused;
  refused.outcome = Step::Outcome::refused;
  auto frame = decode_frame(bytes);
  if (!frame) {
    state_ = State::over;
    refused.why = frame.error().message;
    return refused;
  }
  switch (state_) {
    case State::wants_hello:
      if (const auto* hello = std::get_if<Hello>(&*frame); hello && !hello->from_acceptor) {
        return on_hello(*hello, bytes);
      }
      break;
    case State::wants_proof:
      if (const auto* proof = std::get_if<DialerProof>(&*frame)) return on_proof(*proof);
      break;
    case State::over:
      break;
  }
  state_ = State::over;
  refused.why = "a frame out of order";
  return refused;
}

AcceptorHandshake::Step AcceptorHandshake::on_hello(const Hello& hello, Bytes frame) {
  peer_ = hello;
  Hello answer = hello_of(self_, challenge_);
  answer.from_acceptor = true;
  answer.verdict = judge(self_, hello);
  answer_ = encode(answer);
  Step step;
  step.send = answer_;
  if (answer.verdict != Verdict::admitted) {
    state_ = State::over;
    step.outcome = Step::Outcome::refused;
    step.why = explain(answer.verdict, self_, hello);
    return step;
  }
  hello_.assign(frame.begin(), frame.end());
  state_ = State::wants_proof;
  return step;
}

AcceptorHandshake::Step AcceptorHandshake::on_proof(const DialerProof& proof) {
  state_ = State::over;
  Step step;
  if (equal_in_constant_time(proof.proof, dialer_proof(self_.secret, hello_, answer_))) {
    step.outcome = Step::Outcome::authenticated;
    return step;
  }
  step.outcome = Step::Outcome::refused;
  step.why = explain(Verdict::authentication_failed, self_, peer_);
  Welcome no;
  no.verdict = Verdict::authentication_failed;
  step.send = encode(no);
  return step;
}

std::vector<std::byte> AcceptorHandshake::prove(Welcome welcome) const {
  welcome.proof = acceptor_proof(self_.secret, hello_, answer_, welcome);
  return encode(welcome);
}

std::vector<std::byte> AcceptorHandshake::welcome(const std::array<Grant, 2>& grants) const {
  Welcome welcome;
  welcome.grants = grants;
  return prove(welcome);
}

std::vector<std::byte> AcceptorHandshake::not_now() const {
  Welcome welcome;
  welcome.verdict = Verdict::not_now;
  return prove(welcome);
}

}  // namespace duet::interconnect
