// The engine's end of a mirror whose connection the test plays: it comes and goes when told, and
// writes complete at once, when released, or never. A completed write is in the partner's region.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "ports/mirror_link.h"
#include "ports/nvram.h"

namespace duet::simulation {

class FakeMirror final : public ports::MirrorLink {
 public:
  FakeMirror(ports::Scheduler& scheduler, ports::Nvram& ours, ports::Nvram& partners)
      : scheduler_(scheduler), ours_(ours), partners_(partners) {}
  ~FakeMirror() override { *alive_ = false; }

  // ---- the test's side ----
  void connect();
  void disconnect();  // writes under way fail, and may or may not have landed: here they have not
  void hold() { holding_ = true; }
  void release();    // writes held complete, in order, and later ones at once
  void fail_next();  // the next write to complete fails, and the connection with it
  std::size_t writes() const { return writes_; }  // asked for so far
  std::size_t under_way() const { return under_way_.size(); }
  struct Window {
    std::uint64_t offset = 0, length = 0;
    BootNonce partner;
    bool open = false;
  };
  const Window& window() const { return window_; }
  struct Dialled {
    std::string host;
    std::uint16_t port = 0;
    BootNonce partner;
  };
  const Dialled& dialled() const { return dialled_; }

  // ---- ports::MirrorLink ----
  void on_outgoing(std::move_only_function<void(bool up)> callback) override {
    on_outgoing_ = std::move(callback);
  }
  bool outgoing_up() const override { return up_; }
  void write(std::uint64_t offset, std::uint64_t length, ports::Done<void> done) override;
  void dial(const std::string& host, std::uint16_t port, BootNonce partner_nonce) override {
    dialled_ = {host, port, partner_nonce};
  }
  void hang_up() override {
    dialled_ = {};
    disconnect();
  }
  void open_window(std::uint64_t offset, std::uint64_t length, BootNonce partner) override {
    window_ = {offset, length, partner, true};
  }
  void close_window() override { window_ = {}; }
  bool incoming_up() const override { return window_.open; }
  std::uint16_t port() const override { return 7002; }

 private:
  struct Write {
    std::uint64_t offset;
    std::uint64_t length;
    ports::Done<void> done;
  };
  void complete_soon();
  void complete_first();
  void post(ports::Task task);

  ports::Scheduler& scheduler_;
  ports::Nvram& ours_;
  ports::Nvram& partners_;
  std::move_only_function<void(bool)> on_outgoing_;
  bool up_ = false;
  bool holding_ = false;
  bool fail_next_ = false;
  std::size_t writes_ = 0;
  std::deque<Write> under_way_;
  Window window_;
  Dialled dialled_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::simulation
