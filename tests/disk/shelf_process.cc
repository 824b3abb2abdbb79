#include "shelf_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <stdexcept>
#include <utility>

namespace duet::testing {
namespace {

constexpr int patience_ms = 20'000;

[[noreturn]] void fail_with(const std::string& what) {
  throw std::runtime_error(what);
}

struct Descriptor {
  int fd;
  ~Descriptor() { ::close(fd); }
};

// Up to the newline, which is not part of the result.
std::string read_line(int fd) {
  std::string line;
  for (char c = 0;;) {
    pollfd ready{fd, POLLIN, 0};
    if (::poll(&ready, 1, patience_ms) != 1) fail_with("no line in time: '" + line + "'");
    if (::read(fd, &c, 1) != 1) fail_with("ended after '" + line + "'");
    if (c == '\n') return line;
    line += c;
  }
}

// An address of 127/8 that no other process of this machine uses: then its ports are ours alone.
std::string own_address() {
  auto pid = static_cast<unsigned>(::getpid());
  return "127." + std::to_string(64 + (pid >> 16 & 63)) + "." + std::to_string(pid >> 8 & 255) +
         "." + std::to_string(pid & 255);
}

}  // namespace

ShelfProcess::ShelfProcess(std::string program) : ShelfProcess(std::move(program), Options()) {}

ShelfProcess::ShelfProcess(std::string program, Options options)
    : program_(std::move(program)), options_(std::move(options)) {
  std::string pattern = std::filesystem::temp_directory_path() / "duet-shelf-XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) fail_with("mkdtemp: " + pattern);
  directory_ = pattern;
  portals_.assign(options_.paths, own_address() + ":0");
  start();
}

ShelfProcess::~ShelfProcess() {
  if (pid_ > 0) end(SIGKILL);
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

void ShelfProcess::start() {
  if (pid_ > 0) fail_with("the shelf runs already");
  std::vector<std::string> words{program_,
                                 "--dir",
                                 directory_ / "disks",
                                 "--disks",
                                 std::to_string(options_.disks),
                                 "--size",
                                 options_.size,
                                 "--iqn",
                                 options_.iqn,
                                 "--control",
                                 control_path()};
  for (const auto& portal : portals_) words.insert(words.end(), {"--portal", portal});
  if (options_.write_cache) words.push_back("--wce");
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);

  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) fail_with("pipe");
  Descriptor out{ends[0]};
  pid_ = ::fork();
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(ends[1], STDOUT_FILENO);
    ::execv(program_.c_str(), arguments.data());
    ::_exit(127);
  }
  ::close(ends[1]);
  if (pid_ < 0) fail_with("fork");
  // "ready portals=127.0.0.1:40001,127.0.0.1:40002", perhaps after lines of its log.
  constexpr std::string_view ready = "ready portals=";
  std::string line;
  while (!line.starts_with(ready)) line = read_line(out.fd);
  portals_.clear();
  for (std::size_t begin = ready.size(); begin < line.size();) {
    auto end = std::min(line.find(',', begin), line.size());
    portals_.push_back(line.substr(begin, end - begin));
    begin = end + 1;
  }
  if (portals_.size() != options_.paths) fail_with("not as many portals as asked for: " + line);
}

void ShelfProcess::kill() {
  end(SIGKILL);
}

void ShelfProcess::stop() {
  end(SIGTERM);
}

void ShelfProcess::end(int signal) {
  if (pid_ <= 0) return;
  ::kill(pid_, signal);
  ::waitpid(std::exchange(pid_, -1), nullptr, 0);
}

std::string ShelfProcess::control(const std::string& line) const {
  Descriptor socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string path = control_path();
  if (path.size() >= sizeof address.sun_path) fail_with("path too long: " + path);
  std::memcpy(address.sun_path, path.c_str(), path.size());
  if (::connect(socket.fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    fail_with("no control socket at " + path);
  }
  std::string request = line + "\n";
  if (::send(socket.fd, request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size())) {
    fail_with("control: " + line);
  }
  auto answer = read_line(socket.fd);
  if (!answer.starts_with("ok")) fail_with(line + ": " + answer);
  return answer;
}

}  // namespace duet::testing
