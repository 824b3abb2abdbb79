// ports::Disk through iSCSI: a logical unit of a disk shelf or an array. Open this header first;
// iscsi_session.h is the connection below it.
//
// One session per disk, on purpose: a hung disk is given up by ending its session, and that must
// not end the commands of its neighbours. (Sharing a session would save nothing in sends, and a
// shelf sees the same initiator either way; the units differ in the ISID.)
//
// A disk is connected once it answered on this session and is the one we know: unit attentions are
// drained, serial number and capacity read. Another serial number behind the same LUN keeps it
// disconnected, for as long as the stranger is there.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "platform/event_loop.h"
#include "platform/iscsi_session.h"
#include "ports/disk.h"

namespace duet::platform {

struct IscsiDiskOptions {
  IscsiSessionOptions session;  // its isid.unit is set to the LUN
  std::uint8_t lun = 0;
  std::string name;                       // for people; empty: target/LUN
  unsigned queue_depth = 32;              // commands at the disk
  unsigned max_waiting = 512;             // commands waiting here; more: busy
  Duration command_timeout = seconds(5);  // of an operation, from the call to its end
  std::uint32_t max_transfer = 1 << 20;   // bytes of one command; the disk may state less
};

class IscsiDisk final : public ports::Disk {
 public:
  IscsiDisk(EventLoop& loop, IscsiDiskOptions options);
  // Operations under way are given up without a word.
  ~IscsiDisk() override;

  // Begins to connect, and goes on for ever. Error: invalid (the portal is not numeric).
  Status start();
  // Why it is not connected, for people.
  const std::string& last_error() const;

  const std::string& name() const override { return options_.name; }
  bool connected() const override { return connected_; }
  // volatile_cache is true as long as a reservation of others hides it: the safe side.
  const ports::DiskGeometry& geometry() const override { return geometry_; }
  void on_connection(std::move_only_function<void(bool)> callback) override;
  void on_attention(std::move_only_function<void(ports::Attention)> callback) override;

  void read(std::uint64_t offset, MutableBytes into, ports::Done<void> done) override;
  void write(std::uint64_t offset, std::vector<Slice> data, bool durable,
             ports::Done<void> done) override;
  void flush(ports::Done<void> done) override;
  void register_key(ReservationKey key, ports::Done<void> done) override;
  void reserve(ReservationKey key, ports::ReservationType type, ports::Done<void> done) override;
  void release(ReservationKey key, ports::ReservationType type, ports::Done<void> done) override;
  void preempt(ReservationKey key, ReservationKey victim, ports::ReservationType type, bool abort,
               ports::Done<void> done) override;
  void read_keys(ports::Done<ports::RegisteredKeys> done) override;
  void read_reservation(ports::Done<ports::ReservationState> done) override;

  // A read or write of more is `invalid`.
  static constexpr std::uint64_t max_operation = 64u << 20;
  // Slices of one command that are gathered; more are copied together first.
  static constexpr std::size_t max_slices = 256;
  // How often a command is repeated at once (unit attentions, aborted by others), and how often
  // after a pause (disk busy or not ready).
  static constexpr int max_repeats = 16;
  static constexpr int max_pauses = 10;
  static constexpr Duration pause = milliseconds(50);

 private:
  struct Operation;  // one call of the port
  struct Part;       // one command of it
  enum class Step : std::uint8_t { ready, serial, capacity, limits, caching };

  void on_session(bool logged_in);
  void prepare(Step step);
  void on_prepared(Step step, Result<ScsiReply> reply);
  Status accept(Step step, const ScsiReply& reply);
  void prepare_later(Step step);
  void next_step(Step step);
  void ask_caching();
  void disconnect();

  // The command itself, and what the end of an operation is told: the data-in of PR IN.
  using Finish = std::move_only_function<void(Result<Bytes>)>;
  Status admit(std::uint64_t offset, std::uint64_t size) const;
  void start_operation(std::shared_ptr<Operation> operation, Status admitted,
                       std::vector<Part> parts);
  void reservation_out(int action, ports::ReservationType type, ReservationKey key,
                       ReservationKey argument, ports::Done<void> done);
  void reservation_in(int action, Finish done);
  ScsiCommand make_command(const Part& part) const;
  void pump();
  void on_reply(Part part, Result<ScsiReply> reply);
  void finish(Part part, Result<Bytes> result);
  void finish_later(Part part, Error error);
  void resume_paused();
  void report(ports::Attention attention);

  EventLoop& loop_;
  IscsiDiskOptions options_;
  ports::DiskGeometry geometry_;
  std::string stranger_;  // why the disk that answers is not ours
  std::uint32_t max_transfer_;
  bool connected_ = false;
  bool caching_known_ = false;
  int repeats_ = 0;  // of the present step of preparing
  bool asking_caching_ = false;
  unsigned in_flight_ = 0;
  std::deque<Part> waiting_;
  std::vector<Part> paused_;
  ports::TimerId pause_timer_;
  ports::TimerId prepare_timer_;
  std::move_only_function<void(bool)> on_connection_;
  std::move_only_function<void(ports::Attention)> on_attention_;
  std::shared_ptr<char> alive_ = std::make_shared<char>();
  IscsiSession session_;
};

}  // namespace duet::platform
