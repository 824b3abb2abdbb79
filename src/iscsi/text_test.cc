#include "iscsi/text.h"

#include <gtest/gtest.h>

#include "iscsi/test_initiator.h"

namespace duet::iscsi {
namespace {

Result<std::vector<KeyValue>> parse(std::string_view s) {
  return parse_text(std::as_bytes(std::span(s)));
}

TEST(Text, RoundTrip) {
  std::vector<KeyValue> pairs{{"A", "1"}, {"Empty", ""}, {"B", "x=y"}};
  auto again = parse(format_text(pairs));
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(*again, pairs);
}

TEST(Text, TakesPaddingAndAMissingLastNul) {
  EXPECT_EQ(parse(std::string_view("A=1\0\0\0B=2", 10))->size(), 2u);
  EXPECT_EQ(parse("")->size(), 0u);
}

TEST(Text, RefusesWhatIsNotKeyValueOrTooMuch) {
  EXPECT_FALSE(parse("A").has_value());
  EXPECT_FALSE(parse("=1").has_value());
  EXPECT_FALSE(parse(std::string(max_key_size + 1, 'k') + "=1").has_value());
  EXPECT_TRUE(parse(std::string(max_key_size, 'k') + "=1").has_value());
  EXPECT_FALSE(parse("A=" + std::string(max_value_size + 1, 'v')).has_value());
  EXPECT_TRUE(parse("A=" + std::string(max_value_size, 'v')).has_value());
  std::string many;
  for (std::size_t i = 0; i < max_keys; ++i) many += "k=v" + std::string(1, '\0');
  EXPECT_TRUE(parse(many).has_value());
  EXPECT_FALSE(parse(many + "k=v").has_value());
}

TEST(Text, Numbers) {
  EXPECT_EQ(parse_number("0"), 0u);
  EXPECT_EQ(parse_number("262144"), 262144u);
  EXPECT_EQ(parse_number("0xfF"), 255u);
  EXPECT_EQ(parse_number("4294967295"), 0xffffffffu);
  for (const char* bad : {"", "0x", "-1", "+1", "1 ", " 1", "4294967296", "1k", "0xg"}) {
    EXPECT_FALSE(parse_number(bad).has_value()) << bad;
  }
}

TEST(Text, Names) {
  EXPECT_TRUE(valid_iscsi_name("iqn.2026-11.org.duet:red"));
  EXPECT_TRUE(valid_iscsi_name("eui.02004567A425678D"));
  EXPECT_FALSE(valid_iscsi_name("red"));
  EXPECT_FALSE(valid_iscsi_name("iqn.2026-11.org duet"));
  EXPECT_FALSE(valid_iscsi_name("iqn." + std::string(220, 'a')));
}

// Each key: what is offered, what we answer ("" = nothing), and whether it is an error.
TEST(Negotiation, AnswersEachKey) {
  struct Row {
    const char* key;
    const char* offer;
    const char* answer;
    bool error = false;
  };
  const Row rows[] = {
      {"HeaderDigest", "CRC32C,None", "CRC32C"},
      {"HeaderDigest", "None,CRC32C", "None"},
      {"HeaderDigest", "MD5", "Reject"},
      {"DataDigest", "X,CRC32C", "CRC32C"},
      {"MaxRecvDataSegmentLength", "65536", ""},
      {"MaxRecvDataSegmentLength", "511", "", true},
      {"MaxRecvDataSegmentLength", "16777216", "", true},
      {"MaxBurstLength", "16776192", "1048576"},
      {"MaxBurstLength", "262144", "262144"},
      {"MaxBurstLength", "0", "", true},
      {"FirstBurstLength", "65536", "65536"},
      {"FirstBurstLength", "16776192", "262144"},
      {"MaxOutstandingR2T", "1", "1"},
      {"MaxOutstandingR2T", "65535", "4"},
      {"MaxOutstandingR2T", "0", "", true},
      {"InitialR2T", "Yes", "Yes"},
      {"InitialR2T", "No", "No"},
      {"InitialR2T", "Maybe", "", true},
      {"ImmediateData", "Yes", "Yes"},
      {"ImmediateData", "No", "No"},
      {"DataPDUInOrder", "No", "Yes"},
      {"DataSequenceInOrder", "No", "Yes"},
      {"ErrorRecoveryLevel", "2", "0"},
      {"ErrorRecoveryLevel", "3", "", true},
      {"MaxConnections", "8", "1"},
      {"DefaultTime2Wait", "2", "2"},
      {"DefaultTime2Retain", "20", "0"},
      {"DefaultTime2Retain", "3601", "", true},
      {"iSCSIProtocolLevel", "2", "1"},
      {"TaskReporting", "RFC3720,ResponseFence", "RFC3720"},
      {"TaskReporting", "FastAbort", "Reject"},
      {"IFMarker", "Yes", "No"},
      {"OFMarker", "No", "No"},
      {"IFMarkInt", "2048~8192", "Reject"},
      {"InitiatorAlias", "host", ""},
      {"X-com.example.key", "1", "NotUnderstood"},
  };
  for (const auto& row : rows) {
    Negotiation negotiation;
    std::vector<KeyValue> answers;
    auto error = negotiation.take({row.key, row.offer}, answers);
    EXPECT_EQ(error == NegotiationError::protocol_error, row.error) << row.key << row.offer;
    std::string answer = answers.empty() ? "" : answers[0].value;
    EXPECT_EQ(answer, row.answer) << row.key << "=" << row.offer;
    std::vector<KeyValue> again;
    EXPECT_EQ(negotiation.take({row.key, row.offer}, again), NegotiationError::protocol_error)
        << "negotiated twice: " << row.key;
  }
}

TEST(Negotiation, DefaultsAreThoseOfTheRfc) {
  Parameters p = Negotiation().result();
  EXPECT_EQ(p, Parameters());
  EXPECT_EQ(p.first_burst_length, 65536u);
  EXPECT_TRUE(p.initial_r2t && p.immediate_data);
}

TEST(Negotiation, TheFirstBurstIsPartOfABurst) {
  Negotiation negotiation;
  std::vector<KeyValue> answers;
  EXPECT_EQ(negotiation.take({"MaxBurstLength", "4096"}, answers), NegotiationError::none);
  EXPECT_EQ(negotiation.result().first_burst_length, 4096u);
}

TEST(Negotiation, DeclaresOurReceiveLengthOnce) {
  Negotiation negotiation;
  std::vector<KeyValue> answers;
  negotiation.declare(answers);
  negotiation.declare(answers);
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0], (KeyValue{"MaxRecvDataSegmentLength", "262144"}));
}

}  // namespace
}  // namespace duet::iscsi
