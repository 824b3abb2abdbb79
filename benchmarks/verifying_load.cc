// duet-load: writes and reads back on one or more LUNs while nodes fail under it, and proves in the
// end that every acknowledged write is there. See benchmarks/README.md.
//
// Standard output: JSON lines, the last one {"event":"summary",...}. Exit code: 0 nothing lost, no
// bad read, no hard error; 1 otherwise; 2 usage; 3 no completion on some LUN within --start-limit.
#include <fmt/format.h>
#include <signal.h>
#include <sys/random.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "boot_clock.h"
#include "command_channel.h"
#include "lun_load.h"

namespace duet::load {
namespace {

volatile sig_atomic_t interrupted = 0;

struct Arguments {
  std::vector<std::string> urls;
  double interval_ms = 5;
  double deadline_ms = 250;
  double gap_ms = 20;
  double start_limit_s = 20;
  double duration_s = 0;
  std::uint64_t blocks = 0;
  std::string log;
  std::string control;
  bool use_stdin = false;
};

Duration from_ms(double v) {
  return Duration(static_cast<std::int64_t>(v * 1e6));
}

class Program {
 public:
  Program(const Arguments& arguments, const std::vector<Url>& urls, std::FILE* log)
      : arguments_(arguments),
        log_(log),
        channel_([this](const std::string& l) { return on_command(l); }) {
    std::uint64_t run = 0;
    if (getrandom(&run, sizeof run, 0) != sizeof run) run = static_cast<std::uint64_t>(ns(now()));
    LoadOptions options;
    options.interval = from_ms(arguments.interval_ms);
    options.deadline = from_ms(arguments.deadline_ms);
    options.gap_threshold = from_ms(arguments.gap_ms);
    options.blocks = arguments.blocks;
    for (const Url& url : urls) {
      luns_.push_back(std::make_unique<LunLoad>(static_cast<std::uint32_t>(luns_.size()), url,
                                                options, run,
                                                [this](const std::string& l) { emit(log_, l); }));
    }
  }

  Status open_channel() {
    if (arguments_.use_stdin) channel_.use_stdin([this] { stop_ = true; });
    return arguments_.control.empty() ? Status{} : channel_.listen(arguments_.control);
  }

  int run() {
    const Instant begin = now();
    const Instant start_limit = begin + from_ms(arguments_.start_limit_s * 1e3);
    bool started = false;
    while (!std::ranges::all_of(luns_, [](const auto& l) { return l->finished(); })) {
      poll_once();
      const Instant t = now();
      for (auto& lun : luns_) lun->step(t);
      if (!started && std::ranges::all_of(luns_, [](const auto& l) { return l->flowing(); })) {
        started = true;
        emit(stdout, fmt::format(R"({{"event":"started","t":{}}})", ns(t)));
      }
      if (!started && t >= start_limit) {
        fmt::print(stderr, "duet-load: no answer from every LUN within {} s\n",
                   arguments_.start_limit_s);
        return 3;
      }
      const bool over =
          arguments_.duration_s > 0 && t >= begin + from_ms(arguments_.duration_s * 1e3);
      if (stop_ || over || interrupted != 0) {
        for (auto& lun : luns_) lun->finish(t);
      }
    }
    return summarize(now() - begin);
  }

 private:
  static void emit(std::FILE* to, const std::string& line) {
    std::fputs((line + "\n").c_str(), to);
    std::fflush(to);
  }

  void poll_once() {
    polled_.clear();
    Instant next = now() + seconds(1);
    for (auto& lun : luns_) {
      if (lun->finished()) continue;
      next = std::min(next, lun->next_step());
      polled_.push_back({lun->session().fd(), lun->session().events(), 0});
    }
    const std::size_t sessions = polled_.size();
    channel_.add_to(polled_);
    const std::int64_t wait = std::max<std::int64_t>((next - now()).count(), 0);
    const timespec timeout{wait / 1'000'000'000, wait % 1'000'000'000};
    if (ppoll(polled_.data(), polled_.size(), &timeout, nullptr) <= 0) return;
    std::size_t i = 0;
    for (auto& lun : luns_) {
      if (lun->finished()) continue;
      if (polled_[i].revents != 0) lun->session().service(polled_[i].revents);
      ++i;
    }
    polled_.erase(polled_.begin(), polled_.begin() + static_cast<std::ptrdiff_t>(sessions));
    channel_.service(polled_);
  }

  std::string on_command(const std::string& line) {
    const Instant t = now();
    if (line.starts_with("mark ")) {
      double longest = 0;
      std::string each;
      for (auto& lun : luns_) {
        const double pause = ms(lun->end_window(t));
        longest = std::max(longest, pause);
        each += fmt::format("{}{:.3f}", each.empty() ? "" : ",", pause);
      }
      const std::string ended = std::exchange(window_, line.substr(5));
      return fmt::format(
          R"({{"event":"mark","t":{},"name":{},"ended":{},"pause_ms":{:.3f},"luns":[{}]}})", ns(t),
          json_string(window_), json_string(ended), longest, each);
    }
    if (line == "status") {
      std::string each;
      for (auto& lun : luns_) {
        const Counters& c = lun->counters();
        each += fmt::format(
            R"({}{{"ops":{},"last_completion":{},"hard_errors":{},"bad_reads":{},"lost":{}}})",
            each.empty() ? "" : ",", c.ops, ns(lun->last_completion()), c.hard_errors, c.bad_reads,
            c.lost);
      }
      return fmt::format(R"({{"event":"status","t":{},"luns":[{}]}})", ns(t), each);
    }
    if (line == "stop") {
      stop_ = true;
      return R"({"event":"stopping"})";
    }
    return R"({"event":"error","why":"commands: mark NAME, status, stop"})";
  }

  static std::string fields(const Counters& c, Duration longest) {
    return fmt::format(
        R"("ops":{},"longest_gap_ms":{:.3f},"gaps":{},"reconnects":{},"failed_connects":{},)"
        R"("timeouts":{},"busy":{},"hard_errors":{},"bad_reads":{},"verified":{},"lost":{},)"
        R"("unverified":{})",
        c.ops, ms(longest), c.gaps, c.reconnects, c.failed_connects, c.timeouts, c.busy,
        c.hard_errors, c.bad_reads, c.verified, c.lost, c.unverified);
  }

  int summarize(Duration took) {
    Counters sum;
    Duration longest{};
    std::string each;
    for (auto& lun : luns_) {
      const Counters& c = lun->counters();
      sum.ops += c.ops;
      sum.gaps += c.gaps;
      sum.timeouts += c.timeouts;
      sum.busy += c.busy;
      sum.reconnects += c.reconnects;
      sum.failed_connects += c.failed_connects;
      sum.hard_errors += c.hard_errors;
      sum.bad_reads += c.bad_reads;
      sum.verified += c.verified;
      sum.lost += c.lost;
      sum.unverified += c.unverified;
      longest = std::max(longest, lun->longest_gap());
      each += fmt::format("{}{{{}}}", each.empty() ? "" : ",", fields(c, lun->longest_gap()));
    }
    emit(stdout, fmt::format(R"({{"event":"summary","seconds":{:.1f},{},"luns":[{}]}})",
                             ms(took) / 1e3, fields(sum, longest), each));
    return sum.clean() ? 0 : 1;
  }

  const Arguments& arguments_;
  std::FILE* log_;
  std::vector<std::unique_ptr<LunLoad>> luns_;
  CommandChannel channel_;
  std::vector<pollfd> polled_;
  std::string window_ = "start";
  bool stop_ = false;
};

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("A verifying load on iSCSI LUNs. It overwrites them.", "duet-load");
  app.add_option("URL", arguments.urls, "iscsi://HOST:PORT/IQN/LUN")->required();
  app.add_option("--interval", arguments.interval_ms, "ms between two writes of a LUN")
      ->check(CLI::Range(0.0, 60e3));
  app.add_option("--deadline", arguments.deadline_ms, "ms a command, connect or login may take")
      ->check(CLI::Range(1.0, 600e3));
  app.add_option("--gap", arguments.gap_ms, "ms without a completion that are worth a log line");
  app.add_option("--blocks", arguments.blocks, "4 KiB blocks of each LUN to use (0: all)");
  app.add_option("--duration", arguments.duration_s, "seconds to run (0: until stopped)");
  app.add_option("--start-limit", arguments.start_limit_s, "seconds for the first completions");
  app.add_option("--log", arguments.log, "file for the events (default: standard output)");
  app.add_option("--control", arguments.control,
                 "Unix socket for commands: mark NAME, status, stop");
  app.add_flag("--stdin", arguments.use_stdin,
               "commands on standard input; its end stops the load");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  std::vector<Url> urls;
  for (const std::string& text : arguments.urls) {
    auto url = parse_url(text);
    if (!url) {
      fmt::print(stderr, "duet-load: {}\n", url.error().message);
      return 2;
    }
    urls.push_back(*url);
  }
  std::FILE* log = arguments.log.empty() ? stdout : std::fopen(arguments.log.c_str(), "we");
  if (log == nullptr) {
    fmt::print(stderr, "duet-load: cannot write {}\n", arguments.log);
    return 2;
  }
  for (int s : {SIGINT, SIGTERM}) {
    struct sigaction action{};
    action.sa_handler = [](int) { interrupted = 1; };
    sigaction(s, &action, nullptr);
  }
  signal(SIGPIPE, SIG_IGN);
  Program program(arguments, urls, log);
  if (auto opened = program.open_channel(); !opened) {
    fmt::print(stderr, "duet-load: {}\n", opened.error().message);
    return 2;
  }
  return program.run();
}

}  // namespace
}  // namespace duet::load

int main(int argc, char** argv) {
  return duet::load::main(argc, argv);
}
