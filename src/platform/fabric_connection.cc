#include "platform/fabric_connection.h"

#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

#include <algorithm>
#include <utility>

namespace duet::platform {

using interconnect::Grant;

namespace {

constexpr std::size_t completion_batch = 64;
constexpr std::size_t most_operations_posted = 128;
// Rounds of one wake-up, and batches of one round, before other descriptors get their turn.
constexpr int progress_rounds = 4;
constexpr int most_batches = 8;

}  // namespace

Result<std::shared_ptr<FabricConnection>> FabricConnection::dial(EventLoop& loop,
                                                                 fid_fabric& fabric,
                                                                 const fi_info& info,
                                                                 Limits limits) {
  std::shared_ptr<FabricConnection> c(new FabricConnection(loop, limits));
  if (auto opened = c->open(fabric, info); !opened) return std::unexpected(opened.error());
  if (int code = fi_connect(c->endpoint_.get(), info.dest_addr, nullptr, 0); code != 0) {
    return std::unexpected(fabric_error("fi_connect", code));
  }
  c->arm_later();
  return c;
}

Result<std::shared_ptr<FabricConnection>> FabricConnection::accept(
    EventLoop& loop, fid_fabric& fabric, fid_pep& listener, const fi_info& request, Limits limits) {
  std::shared_ptr<FabricConnection> c(new FabricConnection(loop, limits));
  if (auto opened = c->open(fabric, request); !opened) {
    // The endpoint would have taken the request over.
    if (!c->endpoint_) fi_reject(&listener, request.handle, nullptr, 0);
    return std::unexpected(opened.error());
  }
  if (int code = fi_accept(c->endpoint_.get(), nullptr, 0); code != 0) {
    return std::unexpected(fabric_error("fi_accept", code));
  }
  c->arm_later();
  return c;
}

Status FabricConnection::open(fid_fabric& fabric, const fi_info& info) {
  fabric_ = &fabric;
  mr_mode_ = info.domain_attr->mr_mode;
  write_flags_ =
      FI_COMPLETION | ((info.caps & FI_RMA_PMEM) != 0 ? FI_COMMIT_COMPLETE : FI_DELIVERY_COMPLETE);
  most_posted_ = std::min(most_operations_posted, info.tx_attr->size);

  // libfabric does not change what it is given, but its signatures do not say so.
  auto* mutable_info = const_cast<fi_info*>(&info);
  fid_domain* domain = nullptr;
  if (int code = fi_domain(&fabric, mutable_info, &domain, nullptr); code != 0) {
    return std::unexpected(fabric_error("fi_domain", code));
  }
  domain_.reset(domain);

  fi_eq_attr event_attributes{};
  event_attributes.wait_obj = FI_WAIT_FD;
  fid_eq* events = nullptr;
  if (int code = fi_eq_open(&fabric, &event_attributes, &events, nullptr); code != 0) {
    return std::unexpected(fabric_error("fi_eq_open", code));
  }
  events_.reset(events);

  fi_cq_attr completion_attributes{};
  completion_attributes.format = FI_CQ_FORMAT_MSG;
  completion_attributes.size = 2 * most_operations_posted + limits_.receive_frames;
  completion_attributes.wait_obj = FI_WAIT_FD;
  fid_cq* completions = nullptr;
  if (int code = fi_cq_open(domain, &completion_attributes, &completions, nullptr); code != 0) {
    return std::unexpected(fabric_error("fi_cq_open", code));
  }
  completions_.reset(completions);

  std::size_t slab_slots = limits_.receive_frames + limits_.slots;
  slab_ = std::make_unique<std::byte[]>(slab_slots * limits_.frame_size);
  if ((mr_mode_ & FI_MR_LOCAL) != 0) {
    // Local access only. Other providers need no region, and then there is none before the welcome.
    auto registered = register_memory({slab_.get(), slab_slots * limits_.frame_size},
                                      FI_SEND | FI_RECV | FI_READ | FI_WRITE, slab_region_);
    if (!registered) return registered;
  }
  for (std::size_t i = limits_.slots; i > 0; --i) {
    free_slots_.push_back(static_cast<int>(limits_.receive_frames + i - 1));
  }

  fid_ep* endpoint = nullptr;
  if (int code = fi_endpoint(domain, mutable_info, &endpoint, nullptr); code != 0) {
    return std::unexpected(fabric_error("fi_endpoint", code));
  }
  endpoint_.reset(endpoint);
  int code = fi_ep_bind(endpoint, &events->fid, 0);
  if (code == 0) code = fi_ep_bind(endpoint, &completions->fid, FI_TRANSMIT | FI_RECV);
  if (code == 0) code = fi_enable(endpoint);
  if (code != 0) return std::unexpected(fabric_error("fi_enable", code));

  receives_.resize(limits_.receive_frames);
  for (std::size_t i = 0; i < limits_.receive_frames; ++i) {
    if (auto posted = post_receive(i); !posted) return posted;
  }

  int event_fd = -1;
  int completion_fd = -1;
  code = fi_control(&events->fid, FI_GETWAIT, &event_fd);
  if (code == 0) code = fi_control(&completions->fid, FI_GETWAIT, &completion_fd);
  if (code != 0) return std::unexpected(fabric_error("FI_GETWAIT", code));
  events_watcher_ =
      std::make_unique<FdWatcher>(loop_, event_fd, [this](bool, bool) { on_events_ready(); });
  completions_watcher_ =
      std::make_unique<FdWatcher>(loop_, completion_fd, [this](bool, bool) { progress(); });
  events_watcher_->want(true, false);
  completions_watcher_->want(true, false);
  return {};
}

FabricConnection::~FabricConnection() {
  close();
}

// ---- memory ----

Status FabricConnection::register_memory(MutableBytes memory, std::uint64_t access,
                                         Fid<fid_mr>& region) {
  fid_mr* mr = nullptr;
  int code =
      fi_mr_reg(domain_.get(), memory.data(), memory.size(), access, 0, next_key_, 0, &mr, nullptr);
  if (code != 0) return std::unexpected(fabric_error("fi_mr_reg", code));
  ++next_key_;
  region.reset(mr);
  return {};
}

Result<Grant> FabricConnection::open_region(MutableBytes memory, Access access) {
  if (closed_) return fail(ErrorCode::disconnected, "the connection is closed");
  Fid<fid_mr> region;
  auto registered =
      register_memory(memory, access == Access::read ? FI_REMOTE_READ : FI_REMOTE_WRITE, region);
  if (!registered) return std::unexpected(registered.error());
  Grant grant;
  grant.address = (mr_mode_ & FI_MR_VIRT_ADDR) != 0 ? reinterpret_cast<std::uint64_t>(memory.data())
                                                    : std::uint64_t{0};
  grant.key = fi_mr_key(region.get());
  grant.length = memory.size();
  open_regions_.push_back(std::move(region));
  return grant;
}

Status FabricConnection::use_memory(MutableBytes memory) {
  if (closed_ || (mr_mode_ & FI_MR_LOCAL) == 0) return {};
  return register_memory(memory, FI_WRITE, memory_region_);
}

// ---- operations ----

Status FabricConnection::post_receive(std::size_t index) {
  Operation& receive = receives_[index];
  receive.kind = Kind::receive;
  receive.slot = static_cast<int>(index);
  void* descriptor = slab_region_ ? fi_mr_desc(slab_region_.get()) : nullptr;
  auto code = fi_recv(endpoint_.get(), slot(index), limits_.frame_size, descriptor, FI_ADDR_UNSPEC,
                      &receive);
  if (code != 0) return std::unexpected(fabric_error("fi_recv", code));
  return {};
}

void FabricConnection::finish(Operation operation, Status status) {
  if (operation.read_done) {
    if (status) {
      operation.read_done(
          std::vector<std::byte>(operation.bytes, operation.bytes + operation.size));
    } else {
      operation.read_done(std::unexpected(status.error()));
    }
  } else if (operation.done) {
    operation.done(std::move(status));
  }
}

void FabricConnection::send(Bytes frame, ports::Done<void> done) {
  Operation o;
  o.kind = Kind::send;
  o.done = std::move(done);
  start_copied(std::move(o), frame);
}

void FabricConnection::read(std::uint64_t address, std::uint64_t key, std::size_t size,
                            ports::Done<std::vector<std::byte>> done) {
  ASSERT(size <= limits_.frame_size);
  Operation o;
  o.kind = Kind::read;
  o.size = size;
  o.address = address;
  o.key = key;
  o.read_done = std::move(done);
  start_copied(std::move(o), {});
}

void FabricConnection::write_copy(Bytes bytes, std::uint64_t address, std::uint64_t key,
                                  ports::Done<void> done) {
  Operation o;
  o.kind = Kind::write;
  o.address = address;
  o.key = key;
  o.done = std::move(done);
  start_copied(std::move(o), bytes);
}

void FabricConnection::write(Bytes bytes, std::uint64_t address, std::uint64_t key,
                             ports::Done<void> done) {
  Operation o;
  o.kind = Kind::write;
  o.bytes = bytes.data();
  o.size = bytes.size();
  o.address = address;
  o.key = key;
  o.done = std::move(done);
  start(std::move(o));
}

void FabricConnection::start_copied(Operation operation, Bytes bytes) {
  ASSERT(bytes.size() <= limits_.frame_size);
  if (!closed_ && free_slots_.empty()) {
    loop_.post([o = std::move(operation)]() mutable {
      finish(std::move(o), fail(ErrorCode::busy, "too many operations under way"));
    });
    return;
  }
  if (!closed_) {
    operation.slot = free_slots_.back();
    free_slots_.pop_back();
    std::byte* to = slot(static_cast<std::size_t>(operation.slot));
    operation.bytes = to;
    if (!bytes.empty()) {
      std::memcpy(to, bytes.data(), bytes.size());
      operation.size = bytes.size();
    }
  }
  start(std::move(operation));
}

void FabricConnection::start(Operation operation) {
  if (closed_) {
    loop_.post([o = std::move(operation)]() mutable {
      finish(std::move(o), fail(ErrorCode::disconnected, "the connection is closed"));
    });
    return;
  }
  operation.deadline = loop_.now() + limits_.operation_timeout;
  operations_.push_back(std::move(operation));
  post_waiting();
  if (timer_ == ports::TimerId()) arm_timer();
  arm_later();
}

std::int64_t FabricConnection::post(Operation& o) {
  iovec local{const_cast<std::byte*>(o.bytes), o.size};
  const auto& region = o.slot >= 0 ? slab_region_ : memory_region_;
  void* descriptor = region ? fi_mr_desc(region.get()) : nullptr;
  if (o.kind == Kind::send) {
    fi_msg message{};
    message.msg_iov = &local;
    message.desc = &descriptor;
    message.iov_count = 1;
    message.context = &o;
    return fi_sendmsg(endpoint_.get(), &message, FI_COMPLETION | FI_DELIVERY_COMPLETE);
  }
  fi_rma_iov remote{o.address, o.size, o.key};
  fi_msg_rma message{};
  message.msg_iov = &local;
  message.desc = &descriptor;
  message.iov_count = 1;
  message.rma_iov = &remote;
  message.rma_iov_count = 1;
  message.context = &o;
  if (o.kind == Kind::read) return fi_readmsg(endpoint_.get(), &message, FI_COMPLETION);
  return fi_writemsg(endpoint_.get(), &message, write_flags_);
}

// Hands over what the provider takes; the rest waits for completions.
void FabricConnection::post_waiting() {
  if (!connected_) return;
  while (posted_ < operations_.size() && posted_ < most_posted_) {
    Operation& o = operations_[posted_];
    auto code = post(o);
    if (code == -FI_EAGAIN) break;
    if (code != 0) {
      broken(ErrorCode::disconnected, fabric_error("posting an operation", code).message);
      return;
    }
    o.posted = true;
    ++posted_;
  }
}

// ---- time ----

void FabricConnection::arm_timer() {
  timer_ = loop_.at(operations_.front().deadline, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->on_deadline();
  });
}

void FabricConnection::on_deadline() {
  auto self = shared_from_this();
  timer_ = {};
  if (closed_) return;
  // When it is we who were stopped, the completion may be here already.
  progress();
  if (closed_ || operations_.empty()) return;
  if (loop_.now() >= operations_.front().deadline) {
    broken(ErrorCode::timed_out, "the partner did not complete an operation in time");
    return;
  }
  arm_timer();
}

// ---- progress ----

// Whatever was posted in a turn may have completed at once, or have changed what the descriptors
// must wait for: looked at once, when the turn ends.
void FabricConnection::arm_later() {
  if (arming_ || progressing_ || closed_) return;
  arming_ = true;
  loop_.at_turn_end([weak = weak_from_this()] {
    auto self = weak.lock();
    if (!self || self->closed_) return;
    self->arming_ = false;
    if (!self->may_wait()) self->progress();
  });
}

// Nothing is left behind in the queues, so their descriptors may be waited for.
bool FabricConnection::may_wait() {
  // The events have a descriptor of their own, which stays readable until they are read; only while
  // connecting do the two queues move each other.
  ::fid* fids[] = {&completions_->fid, &events_->fid};
  return fi_trywait(fabric_, fids, connected_ ? 1 : 2) == 0;
}

void FabricConnection::on_events_ready() {
  auto self = shared_from_this();
  for (int round = 0; round < progress_rounds && !closed_; ++round) {
    drain_events();
    progress();
    if (closed_) return;
    ::fid* fids[] = {&events_->fid};
    if (fi_trywait(fabric_, fids, 1) == 0) return;
  }
  // Level-triggered: the loop comes back.
}

void FabricConnection::progress() {
  if (progressing_) return;
  auto self = shared_from_this();
  progressing_ = true;
  bool idle = false;
  for (int round = 0; round < progress_rounds && !closed_ && !idle; ++round) {
    drain_completions();
    if (!closed_ && (!connected_ || !failure_.empty())) drain_events();
    // What came before the end still counts: it may say why the peer left.
    if (!closed_ && shut_down_) drain_completions();
    if (closed_) break;
    if (shut_down_ || !failure_.empty()) {
      broken(ErrorCode::disconnected,
             shut_down_ ? "the connection was closed by the other side" : failure_);
      break;
    }
    idle = may_wait();
  }
  progressing_ = false;
  if (!idle) arm_later();
}

void FabricConnection::drain_events() {
  while (!closed_ && !shut_down_) {
    fi_eq_cm_entry entry{};
    std::uint32_t event = 0;
    auto n = fi_eq_read(events_.get(), &event, &entry, sizeof entry, 0);
    if (n == -FI_EAGAIN) break;
    if (n == -FI_EAVAIL) {
      fi_eq_err_entry error{};
      fi_eq_readerr(events_.get(), &error, 0);
      broken(ErrorCode::disconnected, fi_strerror(error.err));
    } else if (n < 0) {
      broken(ErrorCode::disconnected, fabric_error("fi_eq_read", n).message);
    } else if (event == FI_CONNECTED) {
      connected_ = true;
      post_waiting();
      auto callbacks = callbacks_;
      if (!closed_ && callbacks->on_connected) callbacks->on_connected();
    } else if (event == FI_SHUTDOWN) {
      shut_down_ = true;
    }
  }
}

// Bounded: completions bring new operations, which complete again.
void FabricConnection::drain_completions() {
  for (int batch = 0; batch < most_batches && !closed_; ++batch) {
    fi_cq_msg_entry entries[completion_batch];
    auto n = fi_cq_read(completions_.get(), entries, completion_batch);
    if (n == -FI_EAVAIL) {
      // Good completions may follow the failed ones of a broken connection.
      note_failure();
      continue;
    }
    if (n <= 0) {
      if (n < 0 && n != -FI_EAGAIN) failure_ = fabric_error("fi_cq_read", n).message;
      return;
    }
    for (std::int64_t i = 0; i < n && !closed_; ++i)
      on_entry(entries[i].op_context, entries[i].len);
    if (!closed_) complete_in_order();
    if (n < static_cast<std::int64_t>(completion_batch)) return;
  }
}

void FabricConnection::note_failure() {
  fi_cq_err_entry error{};
  auto n = fi_cq_readerr(completions_.get(), &error, 0);
  if (failure_.empty()) {
    failure_ = std::string("an operation failed: ") +
               fi_strerror(n < 0 ? static_cast<int>(-n) : error.err);
  }
}

void FabricConnection::on_entry(void* context, std::size_t length) {
  auto& operation = *static_cast<Operation*>(context);
  if (operation.kind != Kind::receive) {
    operation.completed = true;
    return;
  }
  auto index = static_cast<std::size_t>(operation.slot);
  auto callbacks = callbacks_;
  if (callbacks->on_frame) callbacks->on_frame({slot(index), length});
  if (closed_ || shut_down_ || !failure_.empty()) return;
  if (auto posted = post_receive(index); !posted) failure_ = posted.error().message;
}

void FabricConnection::complete_in_order() {
  while (!closed_ && !operations_.empty() && operations_.front().completed) {
    Operation o = std::move(operations_.front());
    operations_.pop_front();
    --posted_;
    int used = o.slot;
    finish(std::move(o), {});
    if (used >= 0 && !closed_) free_slots_.push_back(used);
  }
  if (!closed_) post_waiting();
}

// ---- the end ----

void FabricConnection::broken(ErrorCode code, const std::string& why) {
  if (closed_) return;
  release(code, why);
  loop_.post([weak = weak_from_this(), why] {
    auto self = weak.lock();
    if (!self || self->abandoned_) return;
    auto callbacks = self->callbacks_;
    if (callbacks->on_closed) callbacks->on_closed(why);
  });
}

void FabricConnection::close() {
  abandoned_ = true;
  if (!closed_) release(ErrorCode::disconnected, "the connection was closed");
}

void FabricConnection::release(ErrorCode code, const std::string& why) {
  closed_ = true;
  loop_.cancel(timer_);
  // Watchers before their descriptors, the endpoint before what it uses.
  events_watcher_.reset();
  completions_watcher_.reset();
  endpoint_.reset();
  open_regions_.clear();
  memory_region_.reset();
  slab_region_.reset();
  completions_.reset();
  events_.reset();
  domain_.reset();
  if (operations_.empty()) return;
  loop_.post([operations = std::exchange(operations_, {}), code, why]() mutable {
    for (auto& o : operations) finish(std::move(o), fail(code, why));
  });
}

}  // namespace duet::platform
