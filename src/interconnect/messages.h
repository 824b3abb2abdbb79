// What travels on a connection between the two nodes: frames (FI_MSG) and the greeting, which is
// written by RDMA. Every byte: docs/formats/interconnect_messages.md. All of it is foreign when it
// arrives; decoders answer `invalid` or `unsupported_version` and never allocate more than they
// got.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "ports/interconnect.h"

namespace duet::interconnect {

inline constexpr std::uint16_t protocol_version = 1;

struct VersionRange {
  std::uint16_t lowest = protocol_version;
  std::uint16_t highest = protocol_version;
  bool operator==(const VersionRange&) const = default;
};
// The highest version both speak.
std::optional<std::uint16_t> common_version(VersionRange a, VersionRange b);

enum class Purpose : std::uint8_t { control = 1, mirror = 2 };

// What the accepting side thinks of the dialling one.
enum class Verdict : std::uint8_t {
  admitted = 1,
  wrong_cluster = 2,
  is_self = 3,
  wrong_node = 4,
  incompatible_version = 5,
  authentication_failed = 6,
  not_now = 7,  // authenticated, but nothing is open to it: try again later
};
std::string_view name(Verdict verdict);

using Challenge = std::array<std::byte, 32>;
using Proof = std::array<std::byte, 32>;  // HMAC-SHA256

// Names a connection: the first 8 bytes of the dialling side's challenge.
using Session = Strong<struct SessionTag, std::uint64_t>;
Session session_of(const Challenge& dialer_challenge);

inline constexpr std::size_t max_software_name = 31;

// First frame of either side, in clear text, so that a mismatch has a name before any secret
// counts.
struct Hello {
  bool from_acceptor = false;
  VersionRange versions;
  NodeId node;
  Purpose purpose = Purpose::control;
  Verdict verdict = Verdict::admitted;  // the acceptor's; a dialer always says admitted
  ClusterId cluster;
  BootNonce nonce;
  Challenge challenge{};
  std::string software;  // printable ASCII, cut to max_software_name
  bool operator==(const Hello&) const = default;
};

// Second frame of the dialling side.
struct DialerProof {
  Proof proof{};
  bool operator==(const DialerProof&) const = default;
};

// A region of the accepting side that the dialling side may use: place `offset` of it is at remote
// address `address + offset - first_offset`.
struct Grant {
  std::uint64_t address = 0;
  std::uint64_t key = 0;
  std::uint64_t first_offset = 0;
  std::uint64_t length = 0;  // bytes; 0: no such region
  bool operator==(const Grant&) const = default;
};

// Second frame of the accepting side: its proof, and where its regions are.
struct Welcome {
  Proof proof{};
  Verdict verdict = Verdict::admitted;
  // control: state structure (read), greeting (write); mirror: window (write), none.
  std::array<Grant, 2> grants;
  bool operator==(const Welcome&) const = default;
};

// The dialling side's connection clients. Says also that its read-write-read-write is done.
struct ClientInformation {
  std::vector<ports::ConnectionClient> clients;
  bool operator==(const ClientInformation&) const = default;
};
// "Your connection `session` informed me, ports and memory for your clients are there."
struct Ready {
  Session session;
  bool operator==(const Ready&) const = default;
};
struct Payload {
  std::vector<std::byte> bytes;  // at most ports::Interconnect::max_message
  bool operator==(const Payload&) const = default;
};

using Frame = std::variant<Hello, DialerProof, Welcome, ClientInformation, Ready, Payload>;

inline constexpr std::size_t frame_header_size = 8;
inline constexpr std::size_t max_frame_size = frame_header_size + ports::Interconnect::max_message;

// Requires: bounds of the fields kept.
std::vector<std::byte> encode(const Frame& frame);
Result<Frame> decode_frame(Bytes bytes);

// What the dialling side writes into the accepting side's greeting region: once after its first
// read (step 1), once after its second (step 2).
struct Greeting {
  std::uint8_t step = 1;
  NodeId node;
  ClusterId cluster;
  BootNonce nonce;
  BootNonce seen;  // of the reader's boot, from its state structure
  Session session;
  bool operator==(const Greeting&) const = default;
};
inline constexpr std::size_t greeting_size = 48;
using GreetingBytes = std::array<std::byte, greeting_size>;
GreetingBytes encode(const Greeting& greeting);
Result<Greeting> decode_greeting(Bytes bytes);

}  // namespace duet::interconnect
