// Test only: an iSCSI target on the event loop whose every answer a test decides, for what a real
// one does rarely: busy, aborted, silent, wrong.
#pragma once

#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "platform/event_loop.h"

namespace duet::platform {

class ScriptedTarget {
 public:
  struct Answer {
    std::uint8_t status = 0;
    std::uint8_t sense_key = 0;    // with CHECK CONDITION (status 2)
    std::uint16_t sense_code = 0;  // ASC << 8 | ASCQ
    std::vector<std::byte> data_in;
  };
  struct Request {
    std::array<std::uint8_t, 16> cdb;
    std::vector<std::byte> data;  // immediate data only
    std::uint32_t expected = 0;   // bytes the initiator expects in or out
  };
  // Nothing: never answered.
  using Script = std::function<std::optional<Answer>(const Request&)>;

  explicit ScriptedTarget(EventLoop& loop);
  ~ScriptedTarget();

  // Asked for every command; empty: usual().
  Script script;
  // Answers the commands of a disk's life: TUR, INQUIRY, READ CAPACITY, MODE SENSE; READ and WRITE
  // with success. What a script falls back on.
  std::optional<Answer> usual(const Request& request) const;

  std::string portal() const;
  void drop_connections();
  void set_listening(bool on);  // off: connections are refused

  bool answer_login = true;
  bool unsolicited_data = false;  // InitialR2T=No and small segments
  bool write_cache = true;
  std::string serial = "SCRIPT01";
  std::uint64_t blocks = 32768;  // of 512 bytes
  std::uint32_t max_transfer_blocks = 0;

  int logins = 0;
  std::array<std::uint8_t, 6> isid{};  // of the last login
  std::vector<Request> requests;       // all SCSI commands

 private:
  struct Connection;
  void accept();

  boost::asio::ip::tcp::acceptor acceptor_;
  boost::asio::ip::tcp::endpoint endpoint_;
  std::vector<std::shared_ptr<Connection>> connections_;
};

}  // namespace duet::platform
