#include "iscsi/negotiation.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace duet::iscsi {
namespace {

enum class Rule : std::uint8_t {
  digest,       // list of values, we take the first of None and CRC32C
  smaller,      // numerical, the smaller of both
  larger,       // numerical, the larger of both
  boolean_or,   // Yes if one of us says Yes
  boolean_and,  // Yes if both say Yes
  declared,     // numerical, the initiator's own; no answer
  ignored,      // declarative text without effect on us
  list,         // list of values of which we take only `ours_text`, else Reject
  answer_no,    // obsolete markers: RFC 7143 13.26
  reject,       // obsolete marker intervals
};

struct KeyRule {
  std::string_view key;
  Rule rule;
  std::uint32_t least = 0;
  std::uint32_t most = 0;
  std::uint32_t ours = 0;  // boolean: 0, 1
  // Where the result goes, if we keep it.
  std::uint32_t Parameters::* number = nullptr;
  bool Parameters::* flag = nullptr;
  std::string_view ours_text = {};
};

constexpr std::uint32_t length_max = (1u << 24) - 1;

constexpr KeyRule rules[] = {
    {.key = "HeaderDigest", .rule = Rule::digest, .flag = &Parameters::header_digest},
    {.key = "DataDigest", .rule = Rule::digest, .flag = &Parameters::data_digest},
    {.key = "MaxRecvDataSegmentLength",
     .rule = Rule::declared,
     .least = 512,
     .most = length_max,
     .number = &Parameters::initiator_max_receive},
    {.key = "MaxBurstLength",
     .rule = Rule::smaller,
     .least = 512,
     .most = length_max,
     .ours = max_burst,
     .number = &Parameters::max_burst_length},
    {.key = "FirstBurstLength",
     .rule = Rule::smaller,
     .least = 512,
     .most = length_max,
     .ours = first_burst,
     .number = &Parameters::first_burst_length},
    {.key = "MaxOutstandingR2T",
     .rule = Rule::smaller,
     .least = 1,
     .most = 65535,
     .ours = max_outstanding_r2t,
     .number = &Parameters::max_outstanding_r2t},
    {.key = "InitialR2T", .rule = Rule::boolean_or, .ours = 0, .flag = &Parameters::initial_r2t},
    {.key = "ImmediateData",
     .rule = Rule::boolean_and,
     .ours = 1,
     .flag = &Parameters::immediate_data},
    {.key = "DataPDUInOrder", .rule = Rule::boolean_or, .ours = 1},
    {.key = "DataSequenceInOrder", .rule = Rule::boolean_or, .ours = 1},
    {.key = "ErrorRecoveryLevel", .rule = Rule::smaller, .least = 0, .most = 2, .ours = 0},
    {.key = "MaxConnections", .rule = Rule::smaller, .least = 1, .most = 65535, .ours = 1},
    {.key = "DefaultTime2Wait",
     .rule = Rule::larger,
     .least = 0,
     .most = 3600,
     .ours = 0,
     .number = &Parameters::time_to_wait},
    {.key = "DefaultTime2Retain",
     .rule = Rule::smaller,
     .least = 0,
     .most = 3600,
     .ours = 0,
     .number = &Parameters::time_to_retain},
    {.key = "iSCSIProtocolLevel", .rule = Rule::smaller, .least = 0, .most = 31, .ours = 1},
    {.key = "TaskReporting", .rule = Rule::list, .ours_text = "RFC3720"},
    {.key = "InitiatorAlias", .rule = Rule::ignored},
    {.key = "IFMarker", .rule = Rule::answer_no},
    {.key = "OFMarker", .rule = Rule::answer_no},
    {.key = "IFMarkInt", .rule = Rule::reject},
    {.key = "OFMarkInt", .rule = Rule::reject},
};

const KeyRule* find_rule(std::string_view key) {
  const auto* found = std::ranges::find(rules, key, &KeyRule::key);
  return found == std::end(rules) ? nullptr : found;
}

std::string yes_no(bool yes) {
  return yes ? "Yes" : "No";
}

// Answers nullopt when the offer breaks its key's range.
std::optional<std::string> settle_number(const KeyRule& rule, std::string_view offer,
                                         Parameters& parameters) {
  auto number = parse_number(offer);
  if (!number || *number < rule.least || *number > rule.most) return {};
  std::uint32_t value = *number;
  if (rule.rule == Rule::smaller) value = std::min(value, rule.ours);
  if (rule.rule == Rule::larger) value = std::max(value, rule.ours);
  if (rule.number != nullptr) parameters.*rule.number = value;
  return std::to_string(value);
}

std::optional<std::string> settle_boolean(const KeyRule& rule, std::string_view offer,
                                          Parameters& parameters) {
  auto theirs = parse_boolean(offer);
  if (!theirs) return {};
  bool ours = rule.ours != 0;
  bool value = rule.rule == Rule::boolean_or ? (*theirs || ours) : (*theirs && ours);
  if (rule.flag != nullptr) parameters.*rule.flag = value;
  return yes_no(value);
}

std::string settle_digest(const KeyRule& rule, std::string_view offer, Parameters& parameters) {
  for (auto value : split_list(offer)) {
    if (value != "None" && value != "CRC32C") continue;
    parameters.*rule.flag = value == "CRC32C";
    return std::string(value);
  }
  return "Reject";
}

}  // namespace

NegotiationError Negotiation::take(const KeyValue& offer, std::vector<KeyValue>& answers) {
  if (!seen_.insert(offer.key).second) return NegotiationError::protocol_error;
  const KeyRule* rule = find_rule(offer.key);
  if (rule == nullptr) {
    answers.push_back({offer.key, "NotUnderstood"});
    return NegotiationError::none;
  }
  std::optional<std::string> answer;
  switch (rule->rule) {
    case Rule::digest:
      answer = settle_digest(*rule, offer.value, parameters_);
      break;
    case Rule::smaller:
    case Rule::larger:
      answer = settle_number(*rule, offer.value, parameters_);
      break;
    case Rule::boolean_or:
    case Rule::boolean_and:
      answer = settle_boolean(*rule, offer.value, parameters_);
      break;
    case Rule::declared:
      return settle_number(*rule, offer.value, parameters_) ? NegotiationError::none
                                                            : NegotiationError::protocol_error;
    case Rule::ignored:
      return NegotiationError::none;
    case Rule::list: {
      auto values = split_list(offer.value);
      bool offered = std::ranges::find(values, rule->ours_text) != values.end();
      answer = offered ? std::string(rule->ours_text) : "Reject";
      break;
    }
    case Rule::answer_no:
      answer = "No";
      break;
    case Rule::reject:
      answer = "Reject";
      break;
  }
  if (!answer) return NegotiationError::protocol_error;
  answers.push_back({offer.key, *answer});
  return NegotiationError::none;
}

void Negotiation::declare(std::vector<KeyValue>& answers) {
  if (declared_) return;
  declared_ = true;
  answers.push_back({"MaxRecvDataSegmentLength", std::to_string(max_receive_data_segment)});
}

Parameters Negotiation::result() const {
  Parameters p = parameters_;
  // RFC 7143 13.14: the first burst is part of a burst.
  p.first_burst_length = std::min(p.first_burst_length, p.max_burst_length);
  return p;
}

}  // namespace duet::iscsi
