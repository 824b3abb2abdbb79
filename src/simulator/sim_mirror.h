// The NVRAM mirror between the two engines, simulated: RDMA writes that land in the partner's NVRAM
// and complete later, completions that get lost, writes that land after their writer gave up, and a
// window that, once closed, nothing passes any more.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "ports/mirror_link.h"
#include "simulator/sim_interconnect.h"
#include "simulator/sim_nvram.h"

namespace duet::simulator {

class SimMirror final : public ports::MirrorLink {
 public:
  static constexpr Duration operation_timeout = milliseconds(500);
  static constexpr Duration dial_limit = milliseconds(1000);
  static constexpr Duration shortest_rest = milliseconds(20), longest_rest = milliseconds(200);

  // `port`: where this engine listens.
  SimMirror(Interconnects& cables, Process& process, SimNvram& nvram, NodeId self, BootNonce nonce,
            std::uint16_t port);
  ~SimMirror() override;
  void end(bool announce);
  // The partner may write into our region.
  bool window_open() const { return window_length_ > 0; }

  void on_outgoing(std::move_only_function<void(bool up)> callback) override {
    on_outgoing_ = std::move(callback);
  }
  bool outgoing_up() const override { return up_; }
  void write(std::uint64_t offset, std::uint64_t length, ports::Done<void> done) override;
  void dial(const std::string& host, std::uint16_t port, BootNonce partner_nonce) override;
  void hang_up() override;
  void open_window(std::uint64_t offset, std::uint64_t length, BootNonce partner_nonce) override;
  void close_window() override;
  bool incoming_up() const override { return incoming_ != nullptr; }
  std::uint16_t port() const override { return port_; }

 private:
  struct Connection {
    SimMirror* writer;  // null: gone
    SimMirror* target;  // null: gone
    NodeId writer_node;
    std::uint64_t offset = 0, length = 0;  // of the window
    bool open_at_writer = true, open_at_target = true;
    Instant last_there{}, last_back{};
    bool held = false;  // a write is still on its way, and all behind it
  };
  using Shared = std::shared_ptr<Connection>;
  struct Write {
    std::uint64_t id;
    ports::Done<void> done;
    ports::TimerId limit;
  };

  // To the target of the connection, in order. `hardware`: its process need not run for it.
  static void send(Interconnects& cables, const Shared& connection, bool hardware, Duration extra,
                   ports::Task task);
  static void close_behind(Interconnects& cables, const Shared& connection);
  void attempt();
  void rest();
  void accept(const Shared& connection, BootNonce from, std::uint64_t dial);
  void dialled(const Shared& connection, bool admitted, std::uint64_t dial);
  void land(const Shared& connection, std::uint64_t id, std::uint64_t offset,
            std::vector<std::byte> bytes);
  void complete(std::uint64_t id);
  void lose_outgoing(const Shared& connection, ErrorCode code);
  void close_incoming();
  void tell(bool up);

  Interconnects& cables_;
  Process& process_;
  SimNvram& nvram_;
  NodeId self_;
  BootNonce nonce_;
  std::uint16_t port_;
  bool ended_ = false;
  std::vector<std::weak_ptr<Connection>> connections_;

  bool dialling_ = false;
  std::uint64_t dials_ = 0;
  std::uint16_t partner_port_ = 0;
  BootNonce partner_nonce_;
  Duration rest_ = shortest_rest;
  ports::TimerId timer_;
  Shared outgoing_;
  bool up_ = false;
  Instant up_since_{};
  std::deque<Write> writes_;  // under way, in order
  std::uint64_t last_write_ = 0;
  std::move_only_function<void(bool)> on_outgoing_;

  std::uint64_t window_offset_ = 0, window_length_ = 0;  // 0: closed
  BootNonce window_nonce_;
  Shared incoming_;
};

}  // namespace duet::simulator
