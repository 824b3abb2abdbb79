// duet-io: asynchronous load on one LUN; what it can do, and what that costs client and servers.
// See benchmarks/README.md.
//
// Standard output: one JSON line. Latencies in microseconds, CPU times in microseconds per
// operation. Exit code: 0; 1 an I/O error or, with --verify, a block that does not hold what was
// acknowledged; 2 usage; 3 no session.
#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "boot_clock.h"
#include "initiator.h"
#include "stamp.h"

namespace duet::load {
namespace {

constexpr Duration quiet_limit = seconds(30);  // nothing completes for so long: give up
constexpr std::uint64_t max_logged_errors = 5;

struct Arguments {
  std::string url;
  std::string pattern = "randwrite";
  std::uint64_t size = 4096;
  std::uint64_t span = 0;
  unsigned depth = 1;
  double seconds = 3;
  double warm_up = 0.5;
  bool verify = false;
  bool fill = false;
  bool fill_half_random = false;
  std::vector<int> server_pids;
};

double own_cpu() {  // seconds
  rusage r{};
  getrusage(RUSAGE_SELF, &r);
  const auto s = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return s(r.ru_utime) + s(r.ru_stime);
}

// User and system time of a process in seconds, in steps of a clock tick; 0 if it is gone. proc(5).
double cpu_of(int pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text((std::istreambuf_iterator<char>(file)), {});
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(text.substr(name_end + 1));
  std::string skipped;
  for (int i = 3; i < 14; ++i) fields >> skipped;
  double user = 0;
  double system = 0;
  fields >> user >> system;
  return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

class IoLoad {
 public:
  IoLoad(const Arguments& arguments, const Url& url)
      : a_(arguments),
        session_(url, fmt::format("iqn.2026-11.org.duet:io.{}", getpid()), 1),
        writes_(a_.pattern.ends_with("write")),
        random_(a_.pattern.starts_with("rand")) {}

  int run() {
    if (!connect()) return 3;
    if ((a_.fill || a_.fill_half_random) && !fill_span()) return 1;
    slots_.resize(a_.depth);
    for (auto& slot : slots_) slot.buffer.resize(a_.size);
    for (auto& slot : slots_) issue(slot);
    serve(from_seconds(a_.warm_up));
    measuring_ = true;
    const double client_before = own_cpu();
    const double server_before = server_cpu();
    const Instant begin = now();
    serve(from_seconds(a_.seconds));
    const double took = ms(now() - begin) / 1e3;
    const double client = own_cpu() - client_before;
    const double server = server_cpu() - server_before;
    measuring_ = false;
    stopping_ = true;
    drain();
    if (a_.verify) verify();
    report(took, client, server);
    session_.log_out(500);
    return errors_ == 0 && bad_ == 0 ? 0 : 1;
  }

 private:
  struct Slot {
    std::vector<std::byte> buffer;
    std::uint64_t unit = 0;  // position in units of a_.size
    std::uint64_t sequence = 0;
    Instant sent{};
  };

  static Duration from_seconds(double s) { return Duration(static_cast<std::int64_t>(s * 1e9)); }

  double server_cpu() const {
    double sum = 0;
    for (int pid : a_.server_pids) sum += cpu_of(pid);
    return sum;
  }

  // Serves the session until `over` says so; false when it is lost or nothing happens.
  template <class Over>
  bool serve_until(Over over) {
    Instant last = now();
    while (!over()) {
      pollfd p{session_.fd(), session_.events(), 0};
      if (poll(&p, 1, 50) > 0) {
        session_.service(p.revents);
        last = now();
      }
      if (session_.state() == Session::State::lost || now() - last > quiet_limit) {
        fmt::print(stderr, "duet-io: {}\n",
                   session_.why_lost().empty() ? "no answer" : session_.why_lost());
        ++errors_;
        return false;
      }
    }
    return true;
  }
  void serve(Duration time) {
    const Instant end = now() + time;
    serve_until([end] { return now() >= end; });
  }
  void drain() {
    serve_until([this] { return in_flight_ == 0; });
  }

  bool connect() {
    session_.open();
    if (!serve_until([this] { return session_.state() == Session::State::ready; })) return false;
    for (int attempt = 0; attempt < 20 && units_ == 0; ++attempt) {  // unit attentions first
      bool answered = false;
      session_.read_capacity([&](const Reply&, Capacity capacity) {
        answered = true;
        capacity_ = capacity;
      });
      if (!serve_until([&] { return answered; })) return false;
      if (capacity_.block_size == 0) continue;
      std::uint64_t bytes = capacity_.blocks * capacity_.block_size;
      if (a_.span != 0) bytes = std::min(bytes, a_.span);
      units_ = bytes / a_.size;
    }
    if (units_ <= a_.depth || a_.size % capacity_.block_size != 0) {
      fmt::print(stderr, "duet-io: the LUN is too small or has another block size\n");
      return false;
    }
    busy_.resize(units_);
    if (a_.verify) acked_.resize(units_);
    return true;
  }

  bool fill_span() {
    std::vector<std::byte> chunk(256 * 1024);
    const std::uint64_t bytes = units_ * a_.size;
    for (std::uint64_t at = 0; at < bytes;) {
      const std::uint64_t n = std::min<std::uint64_t>(chunk.size(), bytes - at);
      if (a_.fill_half_random) {  // the first half of each block
        for (std::size_t word = 0; word < chunk.size(); word += 8) {
          if (word % block_size < block_size / 2) store_le(&chunk[word], random_engine_());
        }
      }
      Outcome outcome = Outcome::failed;
      bool answered = false;
      session_.write(at / capacity_.block_size, Bytes(chunk).first(n), capacity_.block_size,
                     [&](const Reply& reply) {
                       answered = true;
                       outcome = reply.outcome;
                     });
      if (!serve_until([&] { return answered; }) || outcome == Outcome::failed) return false;
      if (outcome == Outcome::good) at += n;
    }
    return true;
  }

  void issue(Slot& slot) {
    do {
      slot.unit = (random_ ? random_engine_() : next_unit_++) % units_;
    } while (busy_[slot.unit]);  // one command at a time for each block, or no order is defined
    busy_[slot.unit] = true;
    send(slot);
  }

  void send(Slot& slot) {
    const std::uint64_t lba = slot.unit * (a_.size / capacity_.block_size);
    ++in_flight_;
    slot.sent = now();
    const auto done = [this, &slot](const Reply& reply) { complete(slot, reply); };
    if (!writes_) return session_.read(lba, slot.buffer, capacity_.block_size, done);
    if (a_.verify) {
      slot.sequence = ++sequence_;
      for (std::uint64_t at = 0; at < a_.size; at += block_size) {
        load::fill(MutableBytes(slot.buffer).subspan(at, block_size),
                   stamp(slot.unit, at, slot.sequence));
      }
    }
    session_.write(lba, slot.buffer, capacity_.block_size, done);
  }

  Stamp stamp(std::uint64_t unit, std::uint64_t at, std::uint64_t sequence) const {
    return {static_cast<std::uint64_t>(getpid()), 0, (unit * a_.size + at) / block_size, sequence};
  }

  void complete(Slot& slot, const Reply& reply) {
    --in_flight_;
    if (reply.outcome == Outcome::busy || reply.outcome == Outcome::unit_attention) {
      ++busy_answers_;
      return send(slot);
    }
    if (reply.outcome == Outcome::failed && ++errors_ <= max_logged_errors) {
      fmt::print(stderr, "duet-io: {} at {}: {}\n", a_.pattern, slot.unit * a_.size, reply.what);
    }
    if (measuring_) latencies_.push_back(static_cast<float>(ms(now() - slot.sent) * 1e3));
    if (reply.outcome == Outcome::good && writes_ && a_.verify) acked_[slot.unit] = slot.sequence;
    busy_[slot.unit] = false;
    if (!stopping_) issue(slot);
  }

  void verify() {
    std::vector<std::byte> buffer(a_.size);
    for (std::uint64_t unit = 0; unit < units_; ++unit) {
      if (acked_[unit] == 0) continue;
      Outcome outcome = Outcome::busy;
      while (outcome == Outcome::busy || outcome == Outcome::unit_attention) {
        bool answered = false;
        session_.read(unit * (a_.size / capacity_.block_size), buffer, capacity_.block_size,
                      [&](const Reply& reply) {
                        answered = true;
                        outcome = reply.outcome;
                      });
        if (!serve_until([&] { return answered; })) return;
      }
      bool right = outcome == Outcome::good;
      for (std::uint64_t at = 0; right && at < a_.size; at += block_size) {
        right = holds(Bytes(buffer).subspan(at, block_size), stamp(unit, at, acked_[unit]));
      }
      ++verified_;
      if (!right && ++bad_ <= max_logged_errors) {
        fmt::print(stderr, "duet-io: at {}: {}, not sequence {}\n", unit * a_.size,
                   load::describe(Bytes(buffer).first(block_size)), acked_[unit]);
      }
    }
  }

  void report(double took, double client, double server) {
    std::ranges::sort(latencies_);
    const auto n = latencies_.size();
    const auto percentile = [&](double p) {
      return n == 0 ? 0.0F
                    : latencies_[std::min(n - 1,
                                          static_cast<std::size_t>(p * static_cast<double>(n)))];
    };
    const double count = n == 0 ? 1 : static_cast<double>(n);
    fmt::print(R"({{"pattern":"{}","size":{},"depth":{},"ops":{},"iops":{:.0f},"mb_per_s":{:.1f},)"
               R"("p50_us":{:.1f},"p99_us":{:.1f},"max_us":{:.1f},"client_cpu_us":{:.2f},)"
               R"("server_cpu_us":{:.2f},"busy":{},"errors":{},"verified":{},"bad":{}}})"
               "\n",
               a_.pattern, a_.size, a_.depth, n, static_cast<double>(n) / took,
               static_cast<double>(n * a_.size) / took / 1e6, percentile(0.5), percentile(0.99),
               percentile(1), client * 1e6 / count, server * 1e6 / count, busy_answers_, errors_,
               verified_, bad_);
  }

  const Arguments& a_;
  Session session_;
  const bool writes_;
  const bool random_;
  Capacity capacity_;
  std::uint64_t units_ = 0;
  std::vector<bool> busy_;
  std::vector<std::uint64_t> acked_;
  std::vector<Slot> slots_;
  std::mt19937_64 random_engine_{1};  // every run the same
  std::uint64_t next_unit_ = 0;
  std::uint64_t sequence_ = 0;
  unsigned in_flight_ = 0;
  bool measuring_ = false;
  bool stopping_ = false;
  std::vector<float> latencies_;
  std::uint64_t busy_answers_ = 0;
  std::uint64_t errors_ = 0;
  std::uint64_t verified_ = 0;
  std::uint64_t bad_ = 0;
};

int main(int argc, char** argv) {
  Arguments a;
  CLI::App app("Asynchronous load on an iSCSI LUN. Writing patterns overwrite it.", "duet-io");
  app.add_option("URL", a.url, "iscsi://HOST:PORT/IQN/LUN")->required();
  app.add_option("--pattern", a.pattern)
      ->check(CLI::IsMember({"randwrite", "randread", "write", "read"}));
  app.add_option("--size", a.size, "bytes of an operation")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(std::uint64_t{512}, std::uint64_t{1} << 24));
  app.add_option("--span", a.span, "part of the LUN used (0: all)")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--depth", a.depth, "commands outstanding")->check(CLI::Range(1, 256));
  app.add_option("--seconds", a.seconds, "measured time");
  app.add_option("--warm-up", a.warm_up, "seconds before it");
  app.add_option("--server-pid", a.server_pids, "a process whose CPU time counts (repeatable)");
  app.add_flag("--verify", a.verify, "read back every written block at the end");
  app.add_flag("--fill", a.fill, "write the span once before");
  app.add_flag("--fill-half-random", a.fill_half_random,
               "the same, with blocks that compress to half their size, not with zeros");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  const auto url = parse_url(a.url);
  if (!url || (a.verify && a.size % block_size != 0)) {
    fmt::print(stderr, "duet-io: {}\n",
               url ? "--verify needs a --size in units of 4096" : url.error().message);
    return 2;
  }
  return IoLoad(a, *url).run();
}

}  // namespace
}  // namespace duet::load

int main(int argc, char** argv) {
  return duet::load::main(argc, argv);
}
