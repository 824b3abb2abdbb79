#include "workers.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>
#include <sstream>

#include "base/assert.h"
#include "base/coverage.h"

namespace duet {

namespace {

std::string one_line(std::string text) {
  std::ranges::replace(text, '\n', ' ');
  return text.empty() ? "-" : text;
}

void write_all(int fd, const std::string& text) {
  for (std::size_t at = 0; at < text.size();) {
    auto n = ::write(fd, text.data() + at, text.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) ::_exit(3);
    at += static_cast<std::size_t>(n);
  }
}

}  // namespace

struct Workers::Child {
  std::uint64_t next = 0, end = 0, stride = 1;  // seeds still to run
  pid_t pid = -1;
  int fd = -1;
  std::string buffer;
  std::uint64_t running = 0;  // the seed it is at; 0: none
  bool finished = false;
};

// In the child: line by line, "begin SEED", "end SEED ...", "mark NAME COUNT".
void Workers::start(Child& child) {
  int ends[2];
  ASSERT(::pipe(ends) == 0);
  child.pid = ::fork();
  ASSERT(child.pid >= 0);
  if (child.pid != 0) {
    ::close(ends[1]);
    child.fd = ends[0];
    child.buffer.clear();
    return;
  }
  ::close(ends[0]);
  for (auto seed = child.next; seed < child.end; seed += child.stride) {
    write_all(ends[1], fmt::format("begin {}\n", seed));
    auto r = simulator::run(make_(seed));
    auto when = r.violated_after / milliseconds(1);
    write_all(ends[1], fmt::format("end {} {} {} {} {} {} {} {} {} {}\n{}\n{}\n", seed, r.hash,
                                   r.steps, r.takeovers, r.cores, r.operations, r.faults,
                                   r.simulated / milliseconds(1), when, r.violation ? 1 : 0,
                                   one_line(r.violation ? r.violation->invariant : ""),
                                   one_line(r.violation ? r.violation->what : "")));
  }
  for (const auto& [name, reached] : coverage::marks()) {
    write_all(ends[1], fmt::format("mark {} {}\n", name, reached.count));
  }
  ::_exit(0);
}

// False: `report` wants no more.
bool Workers::read(Child& child, const Report& report) {
  for (;;) {
    // A result is three lines.
    auto end = child.buffer.find('\n');
    if (end == std::string::npos) return true;
    auto line = child.buffer.substr(0, end);
    std::istringstream words(line);
    std::string what;
    words >> what;
    if (what == "begin") {
      words >> child.running;
    } else if (what == "mark") {
      std::string name;
      std::uint64_t count = 0;
      words >> name >> count;
      marks_[name] += count;
    } else {
      auto second = child.buffer.find('\n', end + 1);
      if (second == std::string::npos) return true;
      auto third = child.buffer.find('\n', second + 1);
      if (third == std::string::npos) return true;
      Outcome outcome;
      int violated = 0;
      words >> outcome.seed >> outcome.hash >> outcome.steps >> outcome.takeovers >>
          outcome.cores >> outcome.operations >> outcome.faults >> outcome.simulated_ms >>
          outcome.violated_ms >> violated;
      if (violated != 0) {
        outcome.invariant = child.buffer.substr(end + 1, second - end - 1);
        outcome.what = child.buffer.substr(second + 1, third - second - 1);
      }
      end = third;
      child.next = child.running + child.stride;
      child.running = 0;
      child.buffer.erase(0, end + 1);
      if (!report(outcome)) return false;
      continue;
    }
    child.buffer.erase(0, end + 1);
  }
}

void Workers::run(std::uint64_t first, std::uint64_t count, const Report& report) {
  std::vector<Child> children(std::min<std::uint64_t>(jobs_, count));
  for (std::size_t i = 0; i < children.size(); ++i) {
    children[i].next = first + i;
    children[i].end = first + count;
    children[i].stride = children.size();
    start(children[i]);
  }
  bool more = true;
  while (more && std::ranges::any_of(children, [](const Child& c) { return !c.finished; })) {
    std::vector<pollfd> waits;
    for (auto& child : children) waits.push_back({child.finished ? -1 : child.fd, POLLIN, 0});
    if (::poll(waits.data(), waits.size(), -1) < 0) continue;
    for (std::size_t i = 0; i < children.size() && more; ++i) {
      auto& child = children[i];
      if (child.finished || waits[i].revents == 0) continue;
      char bytes[65536];
      auto n = ::read(child.fd, bytes, sizeof bytes);
      if (n < 0) continue;
      child.buffer.append(bytes, static_cast<std::size_t>(n));
      more = read(child, report);
      if (n > 0 || !more) continue;
      int status = 0;
      ::waitpid(child.pid, &status, 0);
      ::close(child.fd);
      child.fd = -1;
      if (child.running == 0) {
        child.finished = true;
        continue;
      }
      Outcome outcome;
      outcome.seed = child.running;
      outcome.invariant = "crash";
      outcome.what = WIFSIGNALED(status) ? fmt::format("signal {} ({})", WTERMSIG(status),
                                                       ::strsignal(WTERMSIG(status)))
                                         : fmt::format("exit {}", WEXITSTATUS(status));
      child.next = child.running + child.stride;
      child.running = 0;
      more = report(outcome);
      if (child.next < child.end && more) {
        start(child);
      } else {
        child.finished = true;
      }
    }
  }
  for (auto& child : children) {
    if (child.finished || child.fd < 0) continue;
    ::kill(child.pid, SIGKILL);
    ::waitpid(child.pid, nullptr, 0);
    ::close(child.fd);
  }
}

}  // namespace duet
