// One libfabric connection (FI_EP_MSG) with a domain, a completion queue and an event queue of its
// own, so that regions opened on it exist for this one peer only and end with it. Every operation
// ends: completed, failed, or timed out, after which the connection is closed.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "interconnect/messages.h"
#include "platform/event_loop.h"
#include "platform/fabric_library.h"

namespace duet::platform {

class FabricConnection : public std::enable_shared_from_this<FabricConnection> {
 public:
  struct Limits {
    std::size_t frame_size = 256;    // largest frame, bytes
    std::size_t receive_frames = 4;  // buffers posted
    std::size_t slots = 8;           // sends, reads and copied writes under way
    Duration operation_timeout = milliseconds(500);
  };
  struct Callbacks {
    std::function<void()> on_connected;
    std::function<void(Bytes frame)> on_frame;
    // The connection broke or the peer closed it. Not called after close().
    std::function<void(const std::string& why)> on_closed;
  };

  // Begin to connect; `info` of the partner's address, or of a connection request of `listener`.
  static Result<std::shared_ptr<FabricConnection>> dial(EventLoop& loop, fid_fabric& fabric,
                                                        const fi_info& info, Limits limits);
  static Result<std::shared_ptr<FabricConnection>> accept(EventLoop& loop, fid_fabric& fabric,
                                                          fid_pep& listener, const fi_info& request,
                                                          Limits limits);
  ~FabricConnection();

  // Set before the loop runs again; may be replaced from inside a callback.
  void set_callbacks(Callbacks callbacks) {
    callbacks_ = std::make_shared<const Callbacks>(std::move(callbacks));
  }

  // Opens memory to this peer until close(); the bytes stay valid that long.
  enum class Access : std::uint8_t { read, write };
  Result<interconnect::Grant> open_region(MutableBytes memory, Access access);
  // Memory that write() may send from, until close().
  Status use_memory(MutableBytes memory);

  // Operations complete in the order of the calls, through the loop. Errors: disconnected,
  // timed_out; busy (all slots in use).
  void send(Bytes frame, ports::Done<void> done);
  // At most Limits::frame_size bytes.
  void read(std::uint64_t address, std::uint64_t key, std::size_t size,
            ports::Done<std::vector<std::byte>> done);
  void write_copy(Bytes bytes, std::uint64_t address, std::uint64_t key, ports::Done<void> done);
  // Straight from memory given to use_memory(). Completes when the bytes are in the peer's memory
  // and, where the provider can tell, persistent.
  void write(Bytes bytes, std::uint64_t address, std::uint64_t key, ports::Done<void> done);

  // On return the peer has no access to anything of ours through this connection, not even by
  // operations under way. Operations of ours under way fail with `disconnected`. No callback of
  // Callbacks is called any more; who owns the connection calls this before it goes away.
  void close();
  bool closed() const { return closed_; }
  // Closes it as if it had broken: on_closed follows.
  void give_up(const std::string& why) { broken(ErrorCode::disconnected, why); }

 private:
  enum class Kind : std::uint8_t { receive, send, read, write };
  struct Operation {
    Kind kind{};
    bool posted = false;
    bool completed = false;
    int slot = -1;
    const std::byte* bytes = nullptr;
    std::size_t size = 0;
    std::uint64_t address = 0;
    std::uint64_t key = 0;
    Instant deadline;
    ports::Done<void> done;
    ports::Done<std::vector<std::byte>> read_done;
  };

  FabricConnection(EventLoop& loop, Limits limits) : loop_(loop), limits_(limits) {}
  Status open(fid_fabric& fabric, const fi_info& info);
  Status register_memory(MutableBytes memory, std::uint64_t access, Fid<fid_mr>& region);
  Status post_receive(std::size_t index);
  std::byte* slot(std::size_t index) { return slab_.get() + index * limits_.frame_size; }

  void start(Operation operation);
  void start_copied(Operation operation, Bytes bytes);
  static void finish(Operation operation, Status status);
  std::int64_t post(Operation& operation);
  void post_waiting();
  void arm_timer();
  void on_deadline();

  void arm_later();
  bool may_wait();
  void on_events_ready();
  void progress();
  void drain_events();
  void drain_completions();
  void on_entry(void* context, std::size_t length);
  void note_failure();
  void complete_in_order();
  void broken(ErrorCode code, const std::string& why);
  void release(ErrorCode code, const std::string& why);

  EventLoop& loop_;
  Limits limits_;
  std::shared_ptr<const Callbacks> callbacks_ = std::make_shared<const Callbacks>();
  bool closed_ = false;
  bool abandoned_ = false;  // the owner called close()
  bool shut_down_ = false;  // the peer ended the connection
  std::string failure_;     // the first failed operation
  bool connected_ = false;
  bool arming_ = false;
  bool progressing_ = false;

  fid_fabric* fabric_ = nullptr;
  std::uint64_t mr_mode_ = 0;
  std::uint64_t write_flags_ = 0;
  std::size_t most_posted_ = 0;
  std::uint64_t next_key_ = 1;
  // Destroyed in this order, bottom up: endpoint, regions, queues, domain.
  Fid<fid_domain> domain_;
  Fid<fid_eq> events_;
  Fid<fid_cq> completions_;
  Fid<fid_mr> slab_region_;
  Fid<fid_mr> memory_region_;
  std::vector<Fid<fid_mr>> open_regions_;
  Fid<fid_ep> endpoint_;
  std::unique_ptr<FdWatcher> events_watcher_;
  std::unique_ptr<FdWatcher> completions_watcher_;

  // Receive buffers, then slots.
  std::unique_ptr<std::byte[]> slab_;
  std::vector<Operation> receives_;
  std::vector<int> free_slots_;
  std::deque<Operation> operations_;  // in the order of the calls; waiting ones are at the end
  std::size_t posted_ = 0;
  ports::TimerId timer_;
};

}  // namespace duet::platform
