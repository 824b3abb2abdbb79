// A duet-shelf as a child process of a test: started, killed, restarted on the same portals, told
// to fail through its control socket. Everything blocks, shortly; errors throw.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

namespace duet::testing {

class ShelfProcess {
 public:
  struct Options {
    unsigned disks = 4;
    std::string size = "16M";
    bool write_cache = false;
    unsigned paths = 1;  // portals
    std::string iqn = "iqn.2026-11.org.duet:shelf.test";
  };

  // `program` is the path of duet-shelf. Starts it with empty disks in a directory of its own.
  explicit ShelfProcess(std::string program);
  ShelfProcess(std::string program, Options options);
  // Ends the process and removes the directory.
  ~ShelfProcess();
  ShelfProcess(const ShelfProcess&) = delete;
  ShelfProcess& operator=(const ShelfProcess&) = delete;

  // After kill() or stop(): again on the same portals, with the same disks.
  void start();
  void kill();  // SIGKILL: what is not durable in the files may be lost, power loss it is not
  void stop();  // SIGTERM, waits for the end

  const std::string& portal(unsigned path = 0) const { return portals_.at(path); }
  const std::string& iqn() const { return options_.iqn; }
  pid_t pid() const { return pid_; }

  // A line of docs/protocols/shelf_control.md, as "hang 2"; the answer. Throws unless it is
  // "ok...".
  std::string control(const std::string& line) const;

 private:
  void end(int signal);
  std::filesystem::path control_path() const { return directory_ / "control"; }

  std::string program_;
  Options options_;
  std::filesystem::path directory_;
  std::vector<std::string> portals_;
  pid_t pid_ = -1;
};

}  // namespace duet::testing
