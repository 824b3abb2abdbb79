#include "simulator/client_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "iscsi/pdu.h"

namespace duet::simulator {
namespace {

using iscsi::header_size;
using iscsi::padded;

constexpr std::uint32_t max_data_segment = 64 * 1024;  // of ours; far below what the target takes
constexpr Duration longest_request_to_wait = seconds(30);
enum Answered : std::uint8_t {  // opcodes of the target, RFC 7143 11.1
  nop_in = 0x20,
  scsi_response = 0x21,
  login_response = 0x23,
  data_in = 0x25,
  logout_response = 0x26,
  ready_to_transfer = 0x31,
  async_message = 0x32,
  reject = 0x3f,
};

// A request, fields set by position.
class Pdu {
 public:
  Pdu(std::uint8_t opcode, std::uint8_t flags) : bytes_(header_size) { u8(0, opcode).u8(1, flags); }
  Pdu& u8(std::size_t at, std::uint8_t value) {
    bytes_[at] = static_cast<std::byte>(value);
    return *this;
  }
  Pdu& u16(std::size_t at, std::uint16_t value) {
    store_be(&bytes_[at], value);
    return *this;
  }
  Pdu& u32(std::size_t at, std::uint32_t value) {
    store_be(&bytes_[at], value);
    return *this;
  }
  // Data segment; last.
  std::vector<std::byte> with(Bytes data) {
    u32(4, static_cast<std::uint32_t>(data.size()));  // no additional headers
    bytes_.insert(bytes_.end(), data.begin(), data.end());
    bytes_.resize(padded(bytes_.size()));
    return std::move(bytes_);
  }
  std::vector<std::byte> done() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

void add_key(std::string& text, const char* key, const std::string& value) {
  text += fmt::format("{}={}", key, value);
  text += '\0';
}

std::optional<scsi::Sense> parse_sense(Bytes segment) {
  if (segment.size() < 2) return {};
  const std::size_t size = load_be<std::uint16_t>(segment.data());
  Bytes bytes = segment.subspan(2);
  if (size < scsi::fixed_sense_size || bytes.size() < size) return {};
  const auto u8 = [&](std::size_t i) { return std::to_integer<std::uint8_t>(bytes[i]); };
  scsi::Sense sense{static_cast<scsi::SenseKey>(u8(2) & 0xf), u8(12), u8(13)};
  if ((u8(0) & 0x80) != 0) sense.information = load_be<std::uint32_t>(&bytes[3]);
  return sense;
}

}  // namespace

struct ClientSession::Unit {
  Bytes header;
  Bytes data;
  std::uint8_t u8(std::size_t at) const { return std::to_integer<std::uint8_t>(header[at]); }
  std::uint16_t u16(std::size_t at) const { return load_be<std::uint16_t>(&header[at]); }
  std::uint32_t u32(std::size_t at) const { return load_be<std::uint32_t>(&header[at]); }
  std::uint8_t opcode() const { return u8(0) & 0x3f; }
  std::uint32_t tag() const { return u32(16); }
};

ClientSession::ClientSession(ports::Scheduler& scheduler, ClientNetwork& network, Target target,
                             Initiator initiator, Owner& owner)
    : scheduler_(scheduler),
      network_(network),
      target_(std::move(target)),
      initiator_(std::move(initiator)),
      owner_(owner) {}

ClientSession::~ClientSession() {
  drop();
  *alive_ = false;
}

void ClientSession::open() {
  ASSERT(closed());
  state_ = State::connecting;
  in_.clear();
  cmd_sn_ = 1;
  max_cmd_sn_ = 0;
  exp_stat_sn_ = 0;
  stream_ = network_.connect(target_.address, target_.port, *this);
  watch();
}

void ClientSession::drop() {
  if (closed()) return;
  state_ = State::closed;
  commands_.clear();
  scheduler_.cancel(silence_timer_);
  if (stream_) std::exchange(stream_, nullptr)->close();
}

void ClientSession::end(End end, const std::string& why, Duration wait) {
  drop();
  owner_.on_end(end, why, wait);
}

// ---- silence ----

void ClientSession::watch() {
  heard_ = scheduler_.now();
  pinged_ = false;
  silence_timer_ = scheduler_.at(heard_ + initiator_.patience, [this, alive = alive_] {
    if (*alive) look_for_silence();
  });
}

void ClientSession::look_for_silence() {
  const Instant now = scheduler_.now();
  const Duration limit = pinged_ ? 2 * initiator_.patience : initiator_.patience;
  if (now - heard_ >= limit) {
    if (pinged_ || state_ != State::ready) return end(End::lost, "silence");
    pinged_ = true;
    stream_->send(Pdu(0x40, 0x80)
                      .u32(16, ++last_tag_)
                      .u32(20, iscsi::reserved_tag)
                      .u32(24, cmd_sn_)
                      .u32(28, exp_stat_sn_)
                      .done());
  }
  const Instant next = heard_ + (pinged_ ? 2 * initiator_.patience : initiator_.patience);
  silence_timer_ = scheduler_.at(std::max(next, now), [this, alive = alive_] {
    if (*alive) look_for_silence();
  });
}

// ---- login, logout ----

void ClientSession::on_open() {
  state_ = State::login;
  std::string text;
  add_key(text, "InitiatorName", initiator_.name);
  add_key(text, "TargetName", target_.name);
  add_key(text, "SessionType", "Normal");
  add_key(text, "InitialR2T", initiator_.immediate_data ? "No" : "Yes");
  add_key(text, "ImmediateData", initiator_.immediate_data ? "Yes" : "No");
  add_key(text, "MaxRecvDataSegmentLength", std::to_string(max_data_segment));
  auto login = Pdu(0x43, 0x87).u32(16, ++last_tag_).u32(24, cmd_sn_);
  for (std::size_t i = 0; i < initiator_.isid.size(); ++i) login.u8(8 + i, initiator_.isid[i]);
  stream_->send(login.with(std::as_bytes(std::span(text))));
}

void ClientSession::on_login(const Unit& unit) {
  if (state_ != State::login) return end(End::lost, "login response without a login");
  const std::uint8_t status_class = unit.u8(36);
  if (status_class == 3) return end(End::refused, "target not ready");
  if (status_class != 0) {
    return end(End::forbidden, fmt::format("login status {:04x}", unit.u16(36)));
  }
  if ((unit.u8(1) & 0x83) != 0x83) return end(End::lost, "login does not go on");
  state_ = State::ready;
  owner_.on_ready();
}

void ClientSession::log_out() {
  ASSERT(ready());
  state_ = State::logout;
  stream_->send(Pdu(0x46, 0x80)  // close the session
                    .u32(16, ++last_tag_)
                    .u32(24, cmd_sn_)
                    .u32(28, exp_stat_sn_)
                    .done());
}

void ClientSession::on_closed() {
  const State was = state_;
  stream_.reset();
  switch (was) {
    case State::connecting:
    case State::login:
      return end(End::refused, "connection closed before login");
    case State::logout:
      return end(End::logged_out, "closed");
    case State::ready:
    case State::closed:
      return end(End::lost, "connection closed");
  }
}

// ---- commands ----

std::uint32_t ClientSession::send(Request request) {
  ASSERT(window_open());
  const std::uint32_t tag = ++last_tag_;
  const bool writes = !request.data_out.empty(), reads = request.data_in > 0;
  const auto length =
      writes ? static_cast<std::uint32_t>(request.data_out.size()) : request.data_in;
  const std::uint8_t flags =
      static_cast<std::uint8_t>(0x80 | (writes ? 0x20 : 0) | (reads ? 0x40 : 0));
  auto pdu = Pdu(0x01, flags)
                 .u16(8, request.lun)
                 .u32(16, tag)
                 .u32(20, length)
                 .u32(24, cmd_sn_++)
                 .u32(28, exp_stat_sn_);
  for (std::size_t i = 0; i < request.cdb.size(); ++i) pdu.u8(32 + i, request.cdb[i]);
  const bool at_once = writes && initiator_.immediate_data;
  ASSERT(!at_once || request.data_out.size() <= max_data_segment);
  stream_->send(at_once ? pdu.with(request.data_out) : pdu.done());
  commands_.emplace(tag, Command{std::move(request), {}});
  return tag;
}

void ClientSession::on_ready_to_transfer(const Unit& unit) {
  auto found = commands_.find(unit.tag());
  const std::uint32_t offset = unit.u32(40), length = unit.u32(44);
  if (found == commands_.end() ||
      std::uint64_t{offset} + length > found->second.request.data_out.size()) {
    return end(End::lost, "R2T for data that is not there");
  }
  std::uint32_t data_sn = 0;
  for (std::uint32_t at = 0; at < length; at += max_data_segment) {
    const std::uint32_t size = std::min(max_data_segment, length - at);
    const bool last = at + size == length;
    stream_->send(Pdu(0x05, last ? 0x80 : 0)
                      .u32(16, unit.tag())
                      .u32(20, unit.u32(20))
                      .u32(28, exp_stat_sn_)
                      .u32(36, data_sn++)
                      .u32(40, offset + at)
                      .with(Bytes(found->second.request.data_out).subspan(offset + at, size)));
  }
}

void ClientSession::on_data_in(const Unit& unit) {
  auto found = commands_.find(unit.tag());
  if (found == commands_.end()) return end(End::lost, "data for no command");
  Command& command = found->second;
  const std::uint64_t offset = unit.u32(40);
  if (offset + unit.data.size() > command.request.data_in) {
    return end(End::lost, "more data than was asked for");
  }
  command.data_in.resize(std::max<std::size_t>(command.data_in.size(), offset + unit.data.size()));
  std::ranges::copy(unit.data, command.data_in.begin() + static_cast<long>(offset));
  if ((unit.u8(1) & 1) != 0) finish(unit.tag(), static_cast<scsi::StatusCode>(unit.u8(3)), {});
}

void ClientSession::on_response(const Unit& unit) {
  if (unit.u8(2) != 0) return end(End::lost, "target failure");  // service response, 11.4.3
  finish(unit.tag(), static_cast<scsi::StatusCode>(unit.u8(3)), unit.data);
}

void ClientSession::finish(std::uint32_t tag, scsi::StatusCode status, Bytes sense_segment) {
  auto found = commands_.find(tag);
  if (found == commands_.end()) return end(End::lost, "answer for no command");
  Answer answer{status, {}, std::move(found->second.data_in)};
  commands_.erase(found);
  if (status == scsi::StatusCode::check_condition) answer.sense = parse_sense(sense_segment);
  owner_.on_answer(tag, std::move(answer));
}

// ---- units ----

void ClientSession::on_received(Bytes bytes) {
  heard_ = scheduler_.now();
  pinged_ = false;
  in_.insert(in_.end(), bytes.begin(), bytes.end());
  const std::shared_ptr<ClientStream> stream = stream_;
  std::size_t at = 0;
  while (stream_ == stream && in_.size() - at >= header_size) {
    const std::size_t size = load_be<std::uint32_t>(&in_[at + 4]) & 0xffffff;
    const std::size_t whole = header_size + padded(size);
    if (in_.size() - at < whole) break;
    // The owner may end this session, and open another, in the middle.
    const std::vector<std::byte> copy(in_.begin() + static_cast<long>(at),
                                      in_.begin() + static_cast<long>(at + whole));
    at += whole;
    on_unit({Bytes(copy).first(header_size), Bytes(copy).subspan(header_size, size)});
  }
  if (stream_ == stream) in_.erase(in_.begin(), in_.begin() + static_cast<long>(at));
}

void ClientSession::on_unit(const Unit& unit) {
  const std::uint32_t max = unit.u32(32);
  if (static_cast<std::int32_t>(max - max_cmd_sn_) > 0) max_cmd_sn_ = max;
  const std::uint8_t opcode = unit.opcode();
  const bool bears_status = opcode != ready_to_transfer &&
                            (opcode != data_in || (unit.u8(1) & 1) != 0) &&
                            (opcode != nop_in || unit.tag() != iscsi::reserved_tag);
  if (bears_status) exp_stat_sn_ = unit.u32(24) + 1;
  switch (opcode) {
    case login_response:
      return on_login(unit);
    case data_in:
      return on_data_in(unit);
    case scsi_response:
      return on_response(unit);
    case ready_to_transfer:
      return on_ready_to_transfer(unit);
    case nop_in:
      return on_ping(unit);
    case async_message:
      return on_async(unit);
    case logout_response:
      return end(End::logged_out, "logged out", seconds(unit.u16(40)));
    case reject:
      return end(End::lost, fmt::format("rejected, reason {:#x}", unit.u8(2)));
    default:
      return end(End::lost, fmt::format("unknown unit {:#x}", opcode));
  }
}

void ClientSession::on_ping(const Unit& unit) {
  const std::uint32_t target_tag = unit.u32(20);
  if (target_tag == iscsi::reserved_tag) return;  // the answer to ours
  stream_->send(Pdu(0x40, 0x80)
                    .u32(16, iscsi::reserved_tag)
                    .u32(20, target_tag)
                    .u32(24, cmd_sn_)
                    .u32(28, exp_stat_sn_)
                    .done());
}

void ClientSession::on_async(const Unit& unit) {
  const Duration wait = std::min<Duration>(seconds(unit.u16(40)), longest_request_to_wait);
  switch (unit.u8(36)) {
    case 1:  // asks for a logout within Parameter3 seconds
      return owner_.on_logout_requested(seconds(unit.u16(42)));
    case 2:  // drops this connection, all connections: come back after Parameter2
    case 3:
      return end(End::lost, "the target drops the connection", wait);
    default:
      return;
  }
}

}  // namespace duet::simulator
