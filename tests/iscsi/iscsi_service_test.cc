// The iSCSI service over real sockets with a real initiator, libiscsi, in a thread of its own.
#include <gtest/gtest.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <poll.h>

#include <functional>
#include <string>
#include <thread>

#include "memory_store.h"
#include "platform/event_loop.h"
#include "platform/tcp_network.h"

// libiscsi 1.19 loses 24 bytes of a login whose connection is refused.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() {
  return "leak:libiscsi.so";
}

namespace duet::tests {
namespace {

constexpr const char* red = "iqn.2026-11.org.duet:red";
constexpr const char* initiator = "iqn.2026-11.com.example:host";
constexpr std::size_t medium_size = 8u << 20;
constexpr Duration limit = seconds(60);

std::string pattern(std::size_t size, char first) {
  std::string s(size, 0);
  for (std::size_t i = 0; i < size; ++i) s[i] = static_cast<char>(first + i % 61);
  return s;
}

// The initiator; used in the client's thread.
class Initiator {
 public:
  explicit Initiator(std::uint16_t port, const char* name = initiator)
      : portal_("127.0.0.1:" + std::to_string(port)), iscsi_(iscsi_create_context(name)) {
    iscsi_set_timeout(iscsi_, 20);
    iscsi_set_noautoreconnect(iscsi_, 1);
    iscsi_set_targetname(iscsi_, red);
    iscsi_set_session_type(iscsi_, ISCSI_SESSION_NORMAL);
    iscsi_set_header_digest(iscsi_, ISCSI_HEADER_DIGEST_NONE);
  }
  ~Initiator() { iscsi_destroy_context(iscsi_); }
  Initiator(const Initiator&) = delete;
  Initiator& operator=(const Initiator&) = delete;

  bool log_in() { return iscsi_full_connect_sync(iscsi_, portal_.c_str(), 0) == 0; }
  bool log_out() { return iscsi_logout_sync(iscsi_) == 0; }
  bool write(std::uint32_t block, std::string data) {
    auto* task = iscsi_write10_sync(iscsi_, 0, block, reinterpret_cast<unsigned char*>(data.data()),
                                    static_cast<std::uint32_t>(data.size()), 512, 0, 0, 0, 0, 0);
    return good(task);
  }
  std::string read(std::uint32_t block, std::size_t size) {
    auto* task =
        iscsi_read10_sync(iscsi_, 0, block, static_cast<std::uint32_t>(size), 512, 0, 0, 0, 0, 0);
    std::string data;
    if (task != nullptr && task->status == SCSI_STATUS_GOOD) {
      data.assign(reinterpret_cast<char*>(task->datain.data),
                  static_cast<std::size_t>(task->datain.size));
    }
    if (task != nullptr) scsi_free_scsi_task(task);
    return data;
  }
  // Serves the connection until `condition` or an error of the connection; false then.
  bool serve_until(const std::function<bool()>& condition) {
    while (!condition()) {
      pollfd fd{.fd = iscsi_get_fd(iscsi_),
                .events = static_cast<short>(iscsi_which_events(iscsi_)),
                .revents = 0};
      if (::poll(&fd, 1, 1000) < 0) return false;
      if (iscsi_service(iscsi_, fd.revents) < 0) return false;
    }
    return true;
  }
  iscsi_context* get() { return iscsi_; }
  const std::string& portal() const { return portal_; }

 private:
  static bool good(scsi_task* task) {
    bool ok = task != nullptr && task->status == SCSI_STATUS_GOOD;
    if (task != nullptr) scsi_free_scsi_task(task);
    return ok;
  }
  std::string portal_;
  iscsi_context* iscsi_;
};

class IscsiService : public testing::Test {
 protected:
  void SetUp() override {
    store_.attach(target_);
    store_.add(LunNumber(0), medium_size);
    target_.add_unit(LunNumber(0), memory_unit(red, LunNumber(0), medium_size, 2));
    ASSERT_TRUE(server_.add_target({.name = red, .alias = "red", .backend = &target_}).has_value());
    for (std::uint16_t i : {0, 1}) {
      auto portal =
          server_.add_portal(red, {.address = "127.0.0.1",
                                   .port = 0,
                                   .group_tag = static_cast<std::uint16_t>(i + 1),
                                   .relative_target_port = static_cast<std::uint16_t>(i + 1),
                                   .advertised = {}});
      ASSERT_TRUE(portal.has_value()) << portal.error().message;
      portals_[i] = *portal;
    }
    server_.set_ready(red, true);
  }

  std::uint16_t port(int i = 0) const { return server_.port(portals_[i]); }

  // Runs `client` in a thread and the server here until the client is done.
  void run(const std::function<void()>& client) {
    bool done = false;
    std::thread thread([&] {
      client();
      loop_.post_from_any_thread([&] { done = true; });
    });
    EXPECT_TRUE(loop_.run_until([&] { return done; }, limit));
    thread.join();
  }
  // For clients: runs `task` in the server's thread and waits for it.
  void at_server(const std::function<void()>& task) {
    std::atomic<bool> done = false;
    loop_.post_from_any_thread([&] {
      task();
      done = true;
      done.notify_one();
    });
    done.wait(false);
  }
  // In the server's thread: runs `task` as soon as `condition` holds.
  void when(std::function<bool()> condition, std::function<void()> task) {
    if (condition()) return task();
    loop_.at(loop_.now() + milliseconds(1),
             [this, condition = std::move(condition), task = std::move(task)]() mutable {
               when(std::move(condition), std::move(task));
             });
  }
  bool turn_until(const std::function<bool()>& condition) {
    return loop_.run_until(condition, limit);
  }

  platform::EventLoop loop_;
  platform::TcpNetwork network_{loop_};
  services::IscsiServer server_{loop_, network_};
  MemoryStore store_;
  services::ScsiTarget target_{server_, store_};
  services::PortalId portals_[2];
};

TEST_F(IscsiService, DiscoveryShowsReadyTargetsWithTheirPortals) {
  auto discover = [&](std::vector<std::string>& found) {
    Initiator i(port());
    iscsi_set_session_type(i.get(), ISCSI_SESSION_DISCOVERY);
    ASSERT_EQ(iscsi_connect_sync(i.get(), i.portal().c_str()), 0);
    ASSERT_EQ(iscsi_login_sync(i.get()), 0) << iscsi_get_error(i.get());
    auto* list = iscsi_discovery_sync(i.get());
    for (auto* each = list; each != nullptr; each = each->next) {
      for (auto* at = each->portals; at != nullptr; at = at->next) {
        found.push_back(std::string(each->target_name) + " " + at->portal);
      }
    }
    iscsi_free_discovery_data(i.get(), list);
  };
  std::vector<std::string> found;
  run([&] { discover(found); });
  std::sort(found.begin(), found.end());
  std::vector<std::string> expected{
      std::string(red) + " 127.0.0.1:" + std::to_string(port(0)) + ",1",
      std::string(red) + " 127.0.0.1:" + std::to_string(port(1)) + ",2"};
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(found, expected);

  found.clear();
  server_.remove_portal(portals_[1]);
  run([&] { discover(found); });
  EXPECT_EQ(found.size(), 1u);
}

TEST_F(IscsiService, ReadsAndWritesWithEveryNegotiation) {
  for (auto digest : {ISCSI_HEADER_DIGEST_NONE, ISCSI_HEADER_DIGEST_CRC32C}) {
    for (auto immediate : {ISCSI_IMMEDIATE_DATA_YES, ISCSI_IMMEDIATE_DATA_NO}) {
      for (auto initial_r2t : {ISCSI_INITIAL_R2T_NO, ISCSI_INITIAL_R2T_YES}) {
        run([&] {
          Initiator i(port());
          iscsi_set_header_digest(i.get(), digest);
          iscsi_set_immediate_data(i.get(), immediate);
          iscsi_set_initial_r2t(i.get(), initial_r2t);
          ASSERT_TRUE(i.log_in()) << iscsi_get_error(i.get());
          for (std::size_t size : {512u, 4096u, 65536u, 300u << 10, 1u << 20}) {
            auto data = pattern(size, static_cast<char>('0' + size % 7));
            EXPECT_TRUE(i.write(8, data)) << size << iscsi_get_error(i.get());
            EXPECT_TRUE(i.read(8, size) == data) << size;
          }
          EXPECT_TRUE(i.log_out());
        });
      }
    }
  }
  EXPECT_TRUE(turn_until([&] { return server_.sessions().empty(); }));
}

TEST_F(IscsiService, AnswersPings) {
  run([&] {
    Initiator i(port());
    ASSERT_TRUE(i.log_in());
    int answered = 0;
    auto on_nop = [](iscsi_context*, int status, void*, void* count) {
      if (status == SCSI_STATUS_GOOD) ++*static_cast<int*>(count);
    };
    unsigned char data[] = "ping";
    ASSERT_EQ(iscsi_nop_out_async(i.get(), on_nop, data, sizeof data, &answered), 0);
    EXPECT_TRUE(i.serve_until([&] { return answered == 1; }));
  });
}

TEST_F(IscsiService, ATargetThatIsNotReadyLetsInitiatorsComeBack) {
  server_.set_ready(red, false);
  run([&] {
    Initiator i(port());
    EXPECT_FALSE(i.log_in());
    // Service unavailable: not a permanent error.
    EXPECT_NE(std::string(iscsi_get_error(i.get())).find("769"), std::string::npos)
        << iscsi_get_error(i.get());
    at_server([&] { server_.set_ready(red, true); });
    Initiator again(port());
    EXPECT_TRUE(again.log_in());
    EXPECT_TRUE(again.write(0, pattern(512, 'a')));
  });
}

// A second login of the same initiator port ends the first session; it is let in only when the
// commands of the first have ended.
TEST_F(IscsiService, ReinstatesASessionAfterItsTasksHaveEnded) {
  run([&] {
    Initiator first(port());
    iscsi_set_isid_oui(first.get(), 0x123456, 0x789a);
    ASSERT_TRUE(first.log_in());
    ASSERT_TRUE(first.read(0, 512).size() == 512);
    at_server([&] { store_.hold(); });
    int status = -1;
    auto on_read = [](iscsi_context*, int s, void* task, void* result) {
      *static_cast<int*>(result) = s;
      scsi_free_scsi_task(static_cast<scsi_task*>(task));
    };
    ASSERT_NE(iscsi_read10_task(first.get(), 0, 0, 512, 512, 0, 0, 0, 0, 0, on_read, &status),
              nullptr);
    std::size_t kept = 0;
    first.serve_until([&] {
      at_server([&] { kept = store_.kept(); });
      return kept == 1;
    });

    // The store takes its time with the abort; the new login waits for it.
    bool admitted_too_soon = false;
    at_server([&] {
      store_.keep_aborted(true);
      when([&] { return store_.aborts() == 1; },
           [&] {
             admitted_too_soon = !server_.sessions().empty();
             store_.release();
           });
    });
    Initiator second(port());
    iscsi_set_isid_oui(second.get(), 0x123456, 0x789a);
    ASSERT_TRUE(second.log_in()) << iscsi_get_error(second.get());
    EXPECT_FALSE(admitted_too_soon);
    at_server([&] { EXPECT_EQ(server_.sessions().size(), 1u); });
    EXPECT_EQ(second.read(0, 512).size(), 512u);
    EXPECT_FALSE(first.serve_until([&] { return status == SCSI_STATUS_GOOD; }));
  });
}

TEST_F(IscsiService, ASecondPathIsANexusOfItsOwn) {
  run([&] {
    Initiator a(port(0));
    Initiator b(port(1));
    iscsi_set_isid_oui(a.get(), 0x123456, 0x789a);
    iscsi_set_isid_oui(b.get(), 0x123456, 0x789a);
    ASSERT_TRUE(a.log_in());
    ASSERT_TRUE(b.log_in());
    EXPECT_TRUE(a.write(0, pattern(512, 'a')));
    EXPECT_EQ(b.read(0, 512), pattern(512, 'a'));
    at_server([&] {
      auto sessions = server_.sessions();
      ASSERT_EQ(sessions.size(), 2u);
      EXPECT_NE(sessions[0].relative_target_port, sessions[1].relative_target_port);
      server_.drop_sessions(portals_[0]);  // one path is cut
      EXPECT_EQ(server_.sessions().size(), 1u);
    });
    EXPECT_EQ(a.read(0, 512), "");
    EXPECT_EQ(b.read(0, 512).size(), 512u);
  });
}

// The lease is over: the reply that would leave now does not.
TEST_F(IscsiService, NothingLeavesThroughAClosedGate) {
  bool open = true;
  server_.set_gate([&] { return open; });
  run([&] {
    Initiator i(port());
    ASSERT_TRUE(i.log_in());
    EXPECT_TRUE(i.write(0, pattern(512, 'a')));
    at_server([&] { open = false; });
    EXPECT_FALSE(i.write(0, pattern(512, 'b')));
    at_server([&] {
      EXPECT_TRUE(server_.sessions().empty());
      open = true;
    });
    Initiator again(port());
    ASSERT_TRUE(again.log_in());
    EXPECT_EQ(again.read(0, 512), pattern(512, 'b'));  // executed, but never acknowledged
  });
}

TEST_F(IscsiService, ARemovedTargetIsGoneAtOnceAndLateAnswersAreIgnored) {
  run([&] {
    Initiator i(port());
    ASSERT_TRUE(i.log_in());
    at_server([&] { store_.hold(); });
    at_server([&] {
      when([&] { return store_.kept() == 1; },
           [&] {
             server_.remove_target(red);
             store_.release();
           });
    });
    EXPECT_FALSE(i.write(0, pattern(512, 'a')));
    Initiator again(1);  // nobody listens any more
    EXPECT_FALSE(again.log_in());
  });
  EXPECT_TRUE(server_.sessions().empty());
  EXPECT_TRUE(turn_until([&] { return network_.open_streams() == 0; }));
}

TEST_F(IscsiService, AUnitLeavesWhenItsCommandsHaveEnded) {
  bool gone = false;
  run([&] {
    Initiator i(port());
    ASSERT_TRUE(i.log_in());
    at_server([&] {
      store_.hold();
      target_.remove_unit(LunNumber(0), [&] { gone = true; });
    });
    EXPECT_FALSE(i.write(0, pattern(512, 'a')));
  });
  EXPECT_TRUE(gone);
  EXPECT_TRUE(target_.luns().empty());
}

TEST_F(IscsiService, TaskManagementReachesTheUnit) {
  run([&] {
    Initiator i(port());
    ASSERT_TRUE(i.log_in());
    EXPECT_EQ(iscsi_task_mgmt_lun_reset_sync(i.get(), 0), 0);
    EXPECT_NE(iscsi_task_mgmt_lun_reset_sync(i.get(), 5), 0);  // no such unit
    EXPECT_EQ(iscsi_task_mgmt_target_warm_reset_sync(i.get()), 0);
    iscsi_task_mgmt_target_cold_reset_sync(i.get());
    int end = 0;
    EXPECT_FALSE(i.serve_until([&] { return ++end > 1000; }));  // the connection has ended
  });
}

TEST_F(IscsiService, ConnectionsAreBounded) {
  run([&] {
    std::vector<std::unique_ptr<Initiator>> all;
    for (std::size_t n = 0; n < services::IscsiServer::max_connections; ++n) {
      all.push_back(std::make_unique<Initiator>(port()));
      ASSERT_EQ(iscsi_connect_sync(all.back()->get(), all.back()->portal().c_str()), 0);
    }
    Initiator one_more(port());
    EXPECT_FALSE(one_more.log_in());
    all.clear();
  });
  EXPECT_TRUE(turn_until([&] { return network_.open_streams() == 0; }));
  run([&] {
    Initiator i(port());
    EXPECT_TRUE(i.log_in());
  });
}

}  // namespace
}  // namespace duet::tests
