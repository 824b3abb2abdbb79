#include "interconnect/handshake.h"

#include <gtest/gtest.h>

#include "interconnect/messages_golden.h"

namespace duet::interconnect {
namespace {

using DialerOutcome = DialerHandshake::Step::Outcome;
using AcceptorOutcome = AcceptorHandshake::Step::Outcome;

struct Run {
  DialerHandshake::Step dialer;
  AcceptorHandshake::Step acceptor;
};

// Carries frames between the two until both are done.
Run run(DialerHandshake& dialer, AcceptorHandshake& acceptor, bool open = true) {
  Run r;
  r.acceptor = acceptor.on_frame(dialer.hello());
  r.dialer = dialer.on_frame(r.acceptor.send);
  if (r.dialer.outcome != DialerOutcome::going_on) return r;
  r.acceptor = acceptor.on_frame(r.dialer.send);
  auto last = r.acceptor.send;
  if (r.acceptor.outcome == AcceptorOutcome::authenticated) {
    last = open ? acceptor.welcome(golden::grants) : acceptor.not_now();
  }
  r.dialer = dialer.on_frame(last);
  return r;
}

Run run(const Self& one, const Self& other, bool open = true) {
  DialerHandshake dialer(one, golden::dialer_challenge);
  AcceptorHandshake acceptor(other, golden::acceptor_challenge);
  return run(dialer, acceptor, open);
}

TEST(Handshake, IsTheWorkedExampleByteForByte) {
  DialerHandshake dialer(golden::node(1), golden::dialer_challenge);
  AcceptorHandshake acceptor(golden::node(2), golden::acceptor_challenge);
  EXPECT_EQ(to_hex(dialer.hello()), golden::hello_bytes);
  auto answered = acceptor.on_frame(dialer.hello());
  EXPECT_EQ(to_hex(answered.send), golden::answer_bytes);
  auto proved = dialer.on_frame(answered.send);
  EXPECT_EQ(to_hex(proved.send), golden::proof_bytes);
  auto authenticated = acceptor.on_frame(proved.send);
  EXPECT_EQ(authenticated.outcome, AcceptorOutcome::authenticated);
  EXPECT_TRUE(authenticated.send.empty());
  auto welcome = acceptor.welcome(golden::grants);
  EXPECT_EQ(to_hex(welcome), golden::welcome_bytes);
  EXPECT_EQ(dialer.on_frame(welcome).outcome, DialerOutcome::admitted);

  EXPECT_EQ(dialer.grants(), golden::grants);
  EXPECT_EQ(dialer.peer().node, NodeId(2));
  EXPECT_EQ(acceptor.peer().nonce, golden::node(1).nonce);
  EXPECT_EQ(dialer.session(), acceptor.session());
}

TEST(Handshake, TellsMismatchesApart) {
  struct Case {
    Verdict verdict;
    void (*change)(Self&);
  };
  const Case cases[] = {
      {Verdict::wrong_cluster, [](Self& s) { s.cluster = ClusterId(9); }},
      {Verdict::is_self, [](Self& s) { s = golden::node(1); }},
      {Verdict::wrong_node, [](Self& s) { s.node = NodeId(1); }},
      {Verdict::incompatible_version, [](Self& s) { s.versions = {2, 3}; }},
      {Verdict::not_now, [](Self& s) { s.purpose = Purpose::mirror; }},
      {Verdict::authentication_failed, [](Self& s) { s.secret[31] = std::byte{0}; }},
      {Verdict::authentication_failed, [](Self& s) { s.secret.push_back(std::byte{1}); }},
  };
  for (const auto& c : cases) {
    auto other = golden::node(2);
    c.change(other);
    auto r = run(golden::node(1), other);
    EXPECT_EQ(r.dialer.outcome, DialerOutcome::refused) << name(c.verdict);
    EXPECT_EQ(r.dialer.verdict, c.verdict) << name(c.verdict) << ": " << r.dialer.why;
    EXPECT_FALSE(r.dialer.why.empty());
    EXPECT_EQ(r.acceptor.outcome, AcceptorOutcome::refused) << name(c.verdict);
    EXPECT_FALSE(r.acceptor.send.empty());  // it says why
  }
}

TEST(Handshake, ClosedDoorIsToldToThoseWhoKnowTheSecret) {
  auto r = run(golden::node(1), golden::node(2), false);
  EXPECT_EQ(r.dialer.outcome, DialerOutcome::refused);
  EXPECT_EQ(r.dialer.verdict, Verdict::not_now);
}

TEST(Handshake, AcceptorWithoutTheSecretIsFoundOut) {
  // It admits anyone, but its own proof is worth nothing.
  DialerHandshake dialer(golden::node(1), golden::dialer_challenge);
  auto impostor_self = golden::node(2);
  impostor_self.secret[0] = std::byte{0};
  AcceptorHandshake impostor(impostor_self, golden::acceptor_challenge);
  auto answered = impostor.on_frame(dialer.hello());
  EXPECT_EQ(dialer.on_frame(answered.send).outcome, DialerOutcome::going_on);
  auto step = dialer.on_frame(impostor.welcome(golden::grants));
  EXPECT_EQ(step.outcome, DialerOutcome::refused);
  EXPECT_EQ(step.verdict, Verdict::authentication_failed);
}

TEST(Handshake, ReflectedAndReplayedProofsAreRefused) {
  // Reflected: what the dialer says is sent back to it.
  DialerHandshake dialer(golden::node(1), golden::dialer_challenge);
  EXPECT_EQ(dialer.on_frame(dialer.hello()).outcome, DialerOutcome::refused);

  // Replayed: the frames of an earlier run against a fresh challenge of the acceptor.
  DialerHandshake earlier(golden::node(1), golden::dialer_challenge);
  AcceptorHandshake first(golden::node(2), golden::acceptor_challenge);
  auto proof = earlier.on_frame(first.on_frame(earlier.hello()).send).send;
  EXPECT_EQ(first.on_frame(proof).outcome, AcceptorOutcome::authenticated);
  AcceptorHandshake second(golden::node(2), golden::counting_from(0x77));
  EXPECT_EQ(second.on_frame(earlier.hello()).outcome, AcceptorOutcome::going_on);
  EXPECT_EQ(second.on_frame(proof).outcome, AcceptorOutcome::refused);
}

TEST(Handshake, GrantsAreBoundIntoTheProof) {
  DialerHandshake dialer(golden::node(1), golden::dialer_challenge);
  AcceptorHandshake acceptor(golden::node(2), golden::acceptor_challenge);
  auto proof = dialer.on_frame(acceptor.on_frame(dialer.hello()).send).send;
  EXPECT_EQ(acceptor.on_frame(proof).outcome, AcceptorOutcome::authenticated);
  auto welcome = std::get<Welcome>(*decode_frame(acceptor.welcome(golden::grants)));
  welcome.grants[0].key = 99;
  EXPECT_EQ(dialer.on_frame(encode(welcome)).verdict, Verdict::authentication_failed);
}

// Every frame in every state that does not expect it.
TEST(Handshake, EveryFrameOutOfOrderEndsIt) {
  DialerHandshake d(golden::node(1), golden::dialer_challenge);
  AcceptorHandshake a(golden::node(2), golden::acceptor_challenge);
  const auto hello = d.hello();
  const auto answer = a.on_frame(hello).send;
  const auto proof = d.on_frame(answer).send;
  ASSERT_EQ(a.on_frame(proof).outcome, AcceptorOutcome::authenticated);
  const auto welcome = a.welcome(golden::grants);
  const std::vector<std::vector<std::byte>> frames = {hello,
                                                      answer,
                                                      proof,
                                                      welcome,
                                                      encode(ClientInformation{}),
                                                      encode(Ready{}),
                                                      encode(Payload{}),
                                                      {},
                                                      std::vector<std::byte>(5000)};

  for (std::size_t before = 0; before <= 2; ++before) {
    for (std::size_t i = 0; i < frames.size(); ++i) {
      DialerHandshake dialer(golden::node(1), golden::dialer_challenge);
      if (before >= 1) (void)dialer.on_frame(answer);
      if (before >= 2) (void)dialer.on_frame(welcome);
      bool expected = (before == 0 && i == 1) || (before == 1 && i == 3);
      EXPECT_EQ(dialer.on_frame(frames[i]).outcome == DialerOutcome::refused, !expected)
          << "dialer, state " << before << ", frame " << i;

      AcceptorHandshake acceptor(golden::node(2), golden::acceptor_challenge);
      if (before >= 1) (void)acceptor.on_frame(hello);
      if (before >= 2) (void)acceptor.on_frame(proof);
      expected = (before == 0 && i == 0) || (before == 1 && i == 2);
      EXPECT_EQ(acceptor.on_frame(frames[i]).outcome == AcceptorOutcome::refused, !expected)
          << "acceptor, state " << before << ", frame " << i;
    }
  }
}

}  // namespace
}  // namespace duet::interconnect
