// The control channel of a shelf: a Unix stream socket, a line in, a line out.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "platform/event_loop.h"

namespace duet {

inline constexpr std::size_t max_control_line = 4096;
inline constexpr std::size_t max_control_clients = 32;

class ControlSocket {
 public:
  using Execute = std::function<std::string(std::string_view line)>;

  // Replaces a socket that a killed shelf left behind. Error: io_error.
  static Result<std::unique_ptr<ControlSocket>> open(platform::EventLoop& loop,
                                                     const std::string& path, Execute execute);
  ~ControlSocket();

 private:
  struct Server;
  struct Client;
  explicit ControlSocket(std::shared_ptr<Server> server) : server_(std::move(server)) {}
  std::shared_ptr<Server> server_;
};

// Sends one line and gives the answer. Blocks, at most `timeout`. Error: disconnected, timed_out.
Result<std::string> ask_control(const std::string& path, const std::string& line, Duration timeout);

}  // namespace duet
